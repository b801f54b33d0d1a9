"""What the user says: model, workload, plan and stack."""
