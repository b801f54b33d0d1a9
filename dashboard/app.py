"""The script that streamlit runs: `capsim dashboard` starts it."""

if __name__ == "__main__":  # processes that search for this one import it too, and show nothing
    from dashboard.shell import main

    main()
