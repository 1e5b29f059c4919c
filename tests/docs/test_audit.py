"""The page on audit, stopping and evaluation: its snippets run, without a server."""

from tests.docs.pages import ROOT, agree, blocks, run_python

AUDIT = ROOT / "docs/audit.md"


def test_the_page_on_audit_runs_and_prints_what_it_shows():
    names: dict[str, object] = {}
    printed = ""
    shown = 0
    for block in blocks(AUDIT):
        if block.language == "python":
            assert not printed, f"what line {block.line} and before prints is not shown: {printed}"
            printed = run_python(block, AUDIT, names, {})
        elif block.language == "text":
            assert agree(block.text, printed), (
                f"line {block.line} shows\n{block.text}\nand the snippet prints\n{printed}"
            )
            printed, shown = "", shown + 1
    assert not printed
    assert shown == 7
