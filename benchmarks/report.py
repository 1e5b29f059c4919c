"""The results as a Markdown table: figure, yardstick, aim, and whether it was reached."""

from typing import Any

MIB = 1 << 20


def markdown(results: dict[str, Any]) -> str:
    """The table."""
    machine, memory = results["machine"], results["memory"]
    lines = [
        f"Pool of {results['rows']:,} x {results['dimension']} float32 vectors, 20 classes. Machine: "
        f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gib']} GiB, Linux {machine['kernel']}.",
        "",
        "| what | figure | yardstick | aim | reached |",
        "|---|---|---|---|---|",
        *(_row(*row) for row in _rows(results)),
        "",
        f"Peak memory of the server: {memory['peak_private'] / MIB:,.0f} MiB private, "
        f"{memory['peak_resident'] / MIB:,.0f} MiB with mapped files, for {memory['embeddings'] / MIB:,.0f} MiB of "
        f"embeddings (private: {memory['peak_private'] / memory['embeddings']:.2f}x).",
    ]
    return "\n".join(lines) + "\n"


def _rows(results: dict[str, Any]) -> list[tuple[str, str, str, str, bool | None]]:
    ingest, swap, margin = results["ingest"], results["head_swap"], results["mine_margin"]
    idle, busy, restart = results["next_batch_idle"], results["next_batch_ingesting"], results["restart"]
    raw = results["raw_write"]
    return [
        (
            "ingest over gRPC, durable",
            f"{ingest['rows_per_s']:,.0f} rows/s",
            f"{ingest['ratio_to_raw_write']:.2f} of a warm raw write ({raw['mb_per_s']:,.0f} MB/s), "
            f"{raw['first_seconds'] / ingest['seconds']:.2f} of the first one, "
            f"{results['grpc_stream']['seconds'] / ingest['seconds']:.2f} of a bare gRPC stream",
            ">= 0.25",
            ingest["ratio_to_raw_write"] >= 0.25,
        ),
        (
            "`Mine(margin, 100)`, first after a head swap",
            f"{margin['first_seconds'] * 1e3:,.0f} ms",
            f"{margin['ratio']:.2f}x the bare blocked pass",
            "<= 2x",
            margin["ratio"] <= 2,
        ),
        ("`Mine(margin, 100)`, again", f"{margin['next_seconds'] * 1e3:,.1f} ms", "", "", None),
        (
            "`Mine(k_center, 100)`, shortlist of 50,000",
            f"{results['mine_k_center']['seconds'] * 1e3:,.0f} ms",
            "",
            "",
            None,
        ),
        (
            "`NextBatch(10)`, 8 workers, idle",
            f"p50 {idle['p50_ms']:.1f} ms, p99 {idle['p99_ms']:.1f} ms",
            f"{idle['calls_per_s']:,.0f} calls/s",
            "p99 < 50 ms",
            idle["p99_ms"] < 50,
        ),
        (
            "`NextBatch(10)`, 8 workers, during ingest",
            f"p50 {busy['p50_ms']:.1f} ms, p99 {busy['p99_ms']:.1f} ms",
            f"{busy['rows_ingested_meanwhile']:,} rows came in",
            "p99 < 150 ms",
            busy["p99_ms"] < 150,
        ),
        (
            "head swap to all re-scored",
            f"{swap['seconds'] * 1e3:,.0f} ms",
            f"{swap['ratio']:.2f}x the bare matrix product",
            "<= 2x",
            swap["ratio"] <= 2,
        ),
        ("restart to SERVING", f"{restart['seconds']:.1f} s", "", "< 5 s", restart["seconds"] < 5),
    ]


def _row(what: str, figure: str, yardstick: str, aim: str, reached: bool | None) -> str:
    return f"| {what} | {figure} | {yardstick} | {aim} | {'' if reached is None else 'yes' if reached else 'no'} |"
