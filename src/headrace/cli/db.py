"""`headrace db`: the database and all that belongs to it. Works while a server runs on it, and while none does."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from headrace.cli.apps import json_option
from headrace.cli.keys import Duration
from headrace.cli.shared import FAILED, Bad, data_option, log_to_stderr, say, settings_of, table, wait_for
from headrace.retention import STATUSES, in_words

if TYPE_CHECKING:
    from headrace.ports import Pruned
    from headrace.settings import Settings


@click.group()
def db() -> None:
    """Migrates, prunes, backs up and restores what an installation keeps.

    All but `restore` work while a server runs on the same data folder.
    """


def _settings(data: Path | None, *, there: bool = True) -> Settings:
    settings = settings_of(data=data)
    log_to_stderr("WARNING")
    if there and not settings.database_url and not settings.data.is_dir():
        raise Bad(f"{settings.data}: no such folder. Name another one with --data.")
    return settings


# ------------------------------------------------------------------------------------------------------ schema, sizes


@db.command(short_help="Migrates the database to this version's schema.")
@click.option("--check", is_flag=True, help="Only say what would be done: exit 1 if anything.")
@data_option
@click.pass_context
def upgrade(ctx: click.Context, check: bool, data: Path | None) -> None:
    """Migrates the database to this version's schema, and says from where to where.

    `serve` and every other command do the same when they open it; all of it is done, or nothing. Make a backup first.
    """
    from headrace import backup

    settings = _settings(data)
    before = backup.standing(settings, count=False)
    if not before.due:
        click.echo(f"The schema is {before.newest}: there is nothing to do.")
    elif check:
        click.echo(f"The schema is {before.revision or 'not there yet'}; to be done: {', '.join(before.due)}.")
        ctx.exit(FAILED)
    else:
        wait_for(backup.upgrade(settings))
        click.echo(f"The schema was {before.revision or 'not there yet'}; now it is {before.newest}.")


@db.command("adopt-secret", short_help="Makes this data folder's secret the database's.")
@data_option
def adopt_secret(data: Path | None) -> None:
    """Makes the secret of this data folder the one of the database, whose own is lost.

    A server does not start where they differ: callbacks would be signed, and links and keys made, with another secret
    than before. What was made with the lost one is then no longer valid; keys that were handed out still are.
    """
    from headrace import backup

    settings = _settings(data)
    wait_for(backup.adopt_secret(settings))
    click.echo(f"The secret in {settings.data} is the database's now.")


@db.command(short_help="Tells what is kept, and how much room it takes.")
@json_option
@data_option
def info(as_json: bool, data: Path | None) -> None:
    """Tells the schema of the database, how many rows each table has, and how much room all takes."""
    from headrace import backup

    settings = _settings(data)
    found = backup.standing(settings)
    stored = backup.file_bytes(settings)
    if as_json:
        shown = {
            "schema": found.revision,
            "newest_schema": found.newest,
            "database_bytes": found.size,
            "file_bytes": stored,
            "rows": dict(found.rows),
            "retention_days": settings.retention_days or None,
        }
        click.echo(json.dumps(shown, indent=2))
        return
    rows = [
        ("schema", f"{found.revision or 'not there yet'} (this version: {found.newest})"),
        ("database", size(found.size)),
        ("stored files", size(stored)),
        ("days that runs are kept", settings.retention_days or "all"),
        *((name, str(count)) for name, count in sorted(found.rows.items())),
    ]
    click.echo(table(rows))


# ------------------------------------------------------------------------------------------------------------- pruning


@db.command(short_help="Deletes runs that ended long ago, and what belongs to nothing any more.")
@click.option(
    "--older-than", type=Duration(), metavar="TIME", help="How long ago they ended, such as 30d; else as configured."
)
@click.option(
    "--status",
    "statuses",
    multiple=True,
    type=click.Choice(STATUSES),
    help="Only those that ended so, and others named.",
)
@click.option("--dry-run", is_flag=True, help="Delete nothing; say what would go.")
@click.option("--vacuum", is_flag=True, help="Write the database anew, as small as can be; it is locked meanwhile.")
@json_option
@data_option
def prune(
    older_than: float | None,
    statuses: tuple[str, ...],
    dry_run: bool,
    vacuum: bool,
    as_json: bool,
    data: Path | None,
) -> None:
    """Deletes runs that ended some time ago, with their events, messages, feedbacks and callbacks.

    Without --older-than it goes by HEADRACE_RETENTION_DAYS. What nothing speaks of any more goes as well: stored files
    that lie unused for as long (a day at least) and, unless only some statuses are meant, batches and conversations of
    which nothing is left. Ctrl-C ends it safely; another time it goes on.
    """
    settings = _settings(data)
    seconds = _seconds(settings, older_than, statuses)

    async def work() -> tuple[Pruned, int]:
        from headrace import backup
        from headrace.ports import Pruned

        total = Pruned()
        async with backup.retention(settings, seconds) as (retention, pruner):
            async for step in retention.steps(dry_run=dry_run):
                total = total.plus(step)
            freed = 0 if dry_run else await pruner.shrink()
            if vacuum and not dry_run:
                await pruner.vacuum()
            return total, freed

    pruned, freed = wait_for(work())
    if as_json:
        click.echo(json.dumps({**pruned._asdict(), "dry_run": dry_run}, indent=2))
        return
    room = f" ({size(pruned.file_bytes)} of files)" if pruned.files else ""
    click.echo(f"{'Would delete' if dry_run else 'Deleted'} {in_words(pruned)}{room}.")
    if freed:
        say(f"The database gave {size(freed)} back.")


def _seconds(settings: Settings, older_than: float | None, statuses: tuple[str, ...]) -> Mapping[str, float]:
    """How long runs are to be kept, by status."""
    if older_than is not None:
        return dict.fromkeys(statuses or STATUSES, older_than)
    configured = settings.retention
    if not configured:
        raise Bad("say how old: --older-than 30d, or HEADRACE_RETENTION_DAYS")
    if missing := [status for status in statuses if status not in configured]:
        raise Bad(f"HEADRACE_RETENTION_DAYS keeps {', '.join(missing)} for ever; say how old with --older-than")
    return {status: configured[status] for status in statuses or configured}


# ------------------------------------------------------------------------------------------------------------- backups


@db.command(short_help="Writes a backup, while a server runs.")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--without-files", is_flag=True, help="Leave the stored files out.")
@click.option("--force", is_flag=True, help="Replace FILE.")
@data_option
def backup(file: Path, without_files: bool, force: bool, data: Path | None) -> None:
    """Writes a backup to FILE: a tar of the database as it is at this moment, the installation's secret and the stored
    files, with checksums. It is compressed if FILE ends in .gz or .tgz.

    Whoever has it has all keys' hashes, the secret and all data: it can be read by its owner only. Workflow files and
    the environment are not in it.
    """
    from headrace import backup

    packed = backup.back_up(_settings(data), file, files=not without_files, force=force)
    click.echo(f"{file}: schema {packed.manifest.revision}, {_count(packed.files)}, {size(packed.size)}.")
    if packed.missing:
        say(f"Besides, {_count(packed.missing)} the database knows, and the data folder does not have.")


@db.command(short_help="Puts a backup into a data folder.")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--force", is_flag=True, help="Replace the installation that is in the folder.")
@data_option
def restore(file: Path, force: bool, data: Path | None) -> None:
    """Puts a backup FILE into the data folder (--data), which has to be empty: all of it, once all of it is found to be
    right, or nothing.

    A server that is started on it goes on with the runs that were under way. Do not let the one that was backed up go
    on as well: both would do them.
    """
    from headrace import backup

    settings = _settings(data, there=False)
    packed = backup.restore(settings, file, force=force)
    click.echo(f"{settings.data}: schema {packed.manifest.revision}, {_count(packed.files)}, {size(packed.size)}.")
    if not packed.manifest.files:
        say("The backup was made without stored files: links to them, and runs that need them, fail.")


def _count(files: int) -> str:
    return f"{files} stored file{'s' if files != 1 else ''}"


def size(count: int) -> str:
    """Bytes, for people."""
    if count < 0:
        return "unknown"
    amount: Any = count
    for unit in ("bytes", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.1f} {unit}" if unit != "bytes" else f"{amount} bytes"
        amount /= 1000
    return f"{amount:.1f} TB"
