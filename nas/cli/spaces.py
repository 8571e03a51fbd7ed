"""The command that lists the ready search spaces: nas spaces."""

from nas.cli.options import AsCsv, AsJson


def spaces(as_json: AsJson = False, as_csv: AsCsv = False) -> None:
    """The search spaces of ours: what `--space` may name, beside module:object of your own."""
    from nas.catalogue import described
    from nas.report.tables import print_records
    from search_spaces.catalogue import CATALOGUE

    records = [{"space": name, "what it is": described(path)} for name, path in CATALOGUE.items()]
    print_records(records, as_json=as_json, as_csv=as_csv, empty="no spaces")
