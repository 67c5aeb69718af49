"""Finding jobs by the name of their virtual machine: the search box of a GUI, on both implementations of `Database`."""

from sha_daemon.records import Job
from tests.support.databases import Prepared, running

NAMES = ["web1", "Web2.Example.ORG", "db_1", "dbx1", "100%", "1000", "a|b", "Büro", "C:\\vm", "it's"]


async def found(prepared: Prepared, vm: str, statuses: list[str] | None = None, size: int = 100) -> list[list[str]]:
    """The names of machines, page by page."""
    pages: list[list[str]] = []
    after: str | None = None
    while not pages or after is not None:
        page = await prepared.database.run(lambda s, after=after: s.jobs(statuses or [], size, after, vm))  # type: ignore[misc]
        pages.append([view.vm_name for view in page.jobs])
        after = page.cursor
    return pages


FINDS = [
    ("", NAMES),
    ("web", ["web1", "Web2.Example.ORG"]),
    ("WEB2", ["Web2.Example.ORG"]),
    ("example", ["Web2.Example.ORG"]),
    ("_", ["db_1"]),
    ("%", ["100%"]),
    ("|", ["a|b"]),
    ("a|b", ["a|b"]),
    ("\\", ["C:\\vm"]),
    ("'", ["it's"]),
    ("bÜr", ["Büro"]),
    ("buro", ["Büro"]),
    ("00", ["100%", "1000"]),
    (" ", []),
    ("web1 ", []),
    ("%s", []),
    ("\0", []),
    ("web1web1", []),
]


async def test_what_is_typed_is_looked_for_anywhere_in_the_name_letter_by_letter(prepared: Prepared) -> None:
    for n, name in enumerate(NAMES):
        prepared.add_job(running(f"job-{n}"), 9000 - n, name)
    for vm, names in FINDS:
        assert await found(prepared, vm) == [names], vm


async def test_a_search_goes_with_statuses_and_pages(prepared: Prepared) -> None:
    for n in range(12):
        job = Job(job_id=f"job-{n:02}", status="failed" if n % 2 else "completed")
        prepared.add_job(job, 1000 + n, f"web{n}" if n % 3 else f"db{n}")
    assert await found(prepared, "web", ["failed"], 2) == [["web11", "web7"], ["web5", "web1"]]
    assert await found(prepared, "DB", size=3) == [["db9", "db6", "db3"], ["db0"]]


async def test_a_page_that_is_just_full_is_the_last_where_no_more_match(prepared: Prepared) -> None:
    for n in range(4):
        prepared.add_job(running(f"job-{n}"), 1000 + n, "web" if n < 2 else "db")
    assert await found(prepared, "web", size=2) == [["web", "web"]]
