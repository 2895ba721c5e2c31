"""`funnel bench`: this service beside its baselines, in one run, on servers of its own."""

import asyncio
from dataclasses import asdict
from typing import Annotated

import orjson
import typer

app = typer.Typer()


@app.command("bench")
def bench(
    updates: Annotated[int, typer.Option(min=1000, help="Updates for (b) and (c).")] = 40_000,
    candidates: Annotated[int, typer.Option(min=50_000, help="Candidates there are.")] = 100_000,
    usual: Annotated[int, typer.Option(min=10, help="Commands for (a), which is slow.")] = 1000,
    latency: Annotated[int, typer.Option(min=100, help="Single commands, 50 a second.")] = 500,
    bulk: Annotated[int, typer.Option(min=2000, help="Candidates of one operation.")] = 20_000,
    consumers: Annotated[int, typer.Option(min=1, max=8, help="Consumer processes.")] = 2,
    full: Annotated[
        bool, typer.Option(help="200,000 updates over 1,000,000 candidates, as in the README.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="The figures as one JSON object.")] = False,
) -> None:
    """Measure throughput, latency, CPU and memory beside two baselines."""
    from bench.run import BenchConfig, run_bench, table

    config = BenchConfig(
        updates_total=200_000 if full else updates,
        candidates_total=1_000_000 if full else candidates,
        usual_total=usual,
        consumers_total=consumers,
        latency_total=1000 if full else latency,
        bulk_total=100_000 if full else bulk,
        history_candidates_total=1_000_000 if full else 40_000,
        one_lane_total=50_000 if full else 20_000,
        warm_up_total=100_000 if full else 20_000,
    )
    figures = asyncio.run(run_bench(config, report=lambda line: typer.echo(line, err=True)))
    typer.echo(orjson.dumps(asdict(figures)) if json else table(figures))
