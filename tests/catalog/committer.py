"""Run as a program with a catalog's URL: commits until it is killed, and prints the number of each commit after it."""

import sys
from itertools import count

from assay.server.adapters.sql import open_catalog
from tests.catalog.records import label, lease, pool_record, put_labels, request_key


def main() -> None:
    catalog = open_catalog(sys.argv[1])
    with catalog.transaction() as tx:
        pool = tx.insert_pool(pool_record("news"))
    for number in count():
        with catalog.transaction() as tx:
            tx.add_lease(pool.uid, lease(str(number), (number * 2,), token=number))
            put_labels(tx, pool.uid, [label(number * 2 + 1)])
            tx.advance_pool(pool.uid, number)
            tx.remember(pool.uid, request_key(str(number)), b"answer", 1.0)
        sys.stdout.write(f"{number}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
