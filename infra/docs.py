"""Writes into README what is made from the code: the table of errors.

python -m infra.docs
"""

from pathlib import Path

from chalicelib import errors
from chalicelib.errors import StowageError

README = Path(__file__).parent.parent / "README.md"
START = "<!-- errors: made by `python -m infra.docs` from chalicelib/errors.py -->\n"
END = "<!-- /errors -->"


def error_table() -> str:
    """One row a status, with every code that has it."""
    by_status: dict[int, list[str]] = {}
    for kind in vars(errors).values():
        if isinstance(kind, type) and issubclass(kind, StowageError) and kind is not StowageError:
            by_status.setdefault(kind.status, []).append(f"`{kind.code}`")
    rows = [f"| {status} | {', '.join(codes)} |" for status, codes in sorted(by_status.items())]
    return "\n".join(["| status | codes |", "|---|---|", *rows, ""])


def with_tables(text: str) -> str:
    """README with its made parts made anew."""
    before, _, rest = text.partition(START)
    return f"{before}{START}{error_table()}{END}{rest.partition(END)[2]}"


def main() -> None:
    """Rewrite README."""
    README.write_text(with_tables(README.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
