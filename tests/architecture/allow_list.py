"""A contract of import-linter's kind that names what may be imported, so that nothing slips in unnamed."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable

from grimp import ImportGraph
from importlinter import Contract, ContractCheck, fields, output


class AllowListContract(Contract):
    """Packages that import the standard library, themselves and what is listed, and nothing else.

    Options: ``source_modules``, the packages with all that is in them; ``allowed_modules``, what else they may import,
    with all that is in it; and ``exceptions``, single imports ``importer -> imported`` that are allowed as well, where
    ``*`` stands for one name and ``**`` for one or more. An exception that nothing needs breaks the contract too.
    """

    source_modules = fields.ListField(subfield=fields.StringField())
    allowed_modules = fields.ListField(subfield=fields.StringField())
    exceptions = fields.ListField(subfield=fields.StringField(), required=False, default=[])

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        """Find the imports that are not on the list, and the exceptions that nothing needs."""
        del verbose
        sources = _texts(self.source_modules)
        unlisted = {
            f"{importer} -> {imported}"
            for importer in graph.modules
            if _is_in(importer, sources)
            for imported in graph.find_modules_directly_imported_by(importer)
            if not _is_in(imported, (*sys.stdlib_module_names, *sources, *_texts(self.allowed_modules)))
        }
        problems = []
        for exception in _texts(self.exceptions):
            matched = {one for one in unlisted if _pattern(exception).fullmatch(one)}
            problems += [] if matched else [f"nothing needs the exception {exception}"]
            unlisted -= matched
        problems += [f"{one} is not on the list" for one in sorted(unlisted)]
        return ContractCheck(kept=not problems, metadata={"problems": problems})

    def render_broken_contract(self, check: ContractCheck) -> None:
        """Print what is wrong, a line each."""
        for problem in check.metadata["problems"]:
            output.print_error(f"- {problem}", bold=False)


def _texts(field: object) -> list[str]:
    """The value of a field, which import-linter puts in the place of its description."""
    assert isinstance(field, list)
    return [str(one) for one in field]


def _is_in(module: str, packages: Iterable[str]) -> bool:
    """Whether a module is one of several packages, or inside one."""
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def _pattern(exception: str) -> re.Pattern[str]:
    """The imports that an exception means."""
    parts = {"**": r"\w+(\.\w+)*", "*": r"\w+", ".": r"\."}
    return re.compile(re.sub(r"\*\*|\*|\.", lambda match: parts[match.group()], exception))
