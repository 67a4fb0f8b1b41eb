"""`headrace db`: the database and the stored files. Works with or without a running server."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from headrace.cli.apps import json_option
from headrace.cli.keys import Duration
from headrace.cli.shared import FAILED, BadUsage, data_option, log_to_stderr, say, settings_of, table, wait_for
from headrace.kernel.summary import FINAL
from headrace.retention import in_words

if TYPE_CHECKING:
    from headrace.ports import Pruned
    from headrace.settings import Settings


@click.group()
def db() -> None:
    """Migrates, prunes, backs up and restores an installation.

    All but `restore` work while a server runs on the same data folder.
    """


def _settings(data: Path | None, *, must_exist: bool = True) -> Settings:
    settings = settings_of(data=data)
    log_to_stderr("WARNING")
    if must_exist and not settings.database_url and not settings.data.is_dir():
        raise BadUsage(f"{settings.data}: no such folder. Name another one with --data.")
    return settings


# ------------------------------------------------------------------------------------------------------ schema, sizes


@db.command(short_help="Migrates the database to this version's schema.")
@click.option("--check", is_flag=True, help="Only report what would be done; exit 1 if there is anything.")
@data_option
@click.pass_context
def upgrade(ctx: click.Context, check: bool, data: Path | None) -> None:
    """Migrates the database to this version's schema, and prints the revisions before and after.

    `serve` and every other command do the same when they open the database; the migration is atomic. Back up
    first.
    """
    from headrace import backup

    settings = _settings(data)
    before = backup.database_status(settings, count=False)
    if not before.pending:
        click.echo(f"The schema is {before.newest}: it is up to date.")
    elif check:
        click.echo(f"The schema is {before.revision or 'not there yet'}; pending: {', '.join(before.pending)}.")
        ctx.exit(FAILED)
    else:
        wait_for(backup.upgrade(settings))
        click.echo(f"The schema was {before.revision or 'not there yet'}; now it is {before.newest}.")


@db.command(short_help="Partitions the events by day (PostgreSQL).")
@data_option
def partition(data: Path | None) -> None:
    """Moves all events into partitions by day, so that `prune` can drop those of a day at once.

    This is worth it from some 10 GB a day on. The table is rewritten, in one transaction: stop all servers first.
    """
    from headrace import backup

    is_partitioned = wait_for(backup.partition(_settings(data)))
    click.echo(
        "The events are in partitions by day now." if is_partitioned else "The events are in partitions already."
    )


@db.command("adopt-secret", short_help="Replaces the database's secret, which is lost.")
@data_option
def adopt_secret(data: Path | None) -> None:
    """Replaces the database's secret, which is lost, with the configured one (HEADRACE_SECRET), the one of this data
    folder or, for PostgreSQL without either, a new one.

    A server does not start if they differ: callbacks, links and keys would be signed with another secret than
    before. Signatures and links made with the lost secret are no longer valid; keys that were issued still are.
    """
    from headrace import backup

    settings = _settings(data)
    click.echo(f"{wait_for(backup.adopt_secret(settings))} is the database's now.")


@db.command(short_help="Shows what is stored, and how much space it takes.")
@json_option
@data_option
def info(as_json: bool, data: Path | None) -> None:
    """Shows the schema of the database, the rows of each table, and the space that is used."""
    from headrace import backup

    settings = _settings(data)
    status = backup.database_status(settings)
    total_size = wait_for(backup.file_bytes(settings))
    if as_json:
        output = {
            "schema": status.revision,
            "newest_schema": status.newest,
            "database_bytes": status.size,
            "file_bytes": total_size,
            "rows": dict(status.rows),
            "retention_days": settings.retention_days or None,
        }
        click.echo(json.dumps(output, indent=2))
        return
    rows = [
        ("schema", f"{status.revision or 'not there yet'} (this version: {status.newest})"),
        ("database", size(status.size)),
        ("stored files", size(total_size)),
        ("retention in days", settings.retention_days or "all"),
        *((name, str(count)) for name, count in sorted(status.rows.items())),
    ]
    click.echo(table(rows))


# ------------------------------------------------------------------------------------------------------------- pruning


@db.command(short_help="Deletes old runs, and data that nothing refers to any more.")
@click.option(
    "--older-than",
    type=Duration(),
    metavar="TIME",
    help="Age of the runs to delete, such as 30d; by default as configured.",
)
@click.option(
    "--status",
    "statuses",
    multiple=True,
    type=click.Choice(FINAL),
    help="Only runs of this status; repeatable.",
)
@click.option("--dry-run", is_flag=True, help="Delete nothing; report what would be deleted.")
@click.option("--vacuum", is_flag=True, help="Rewrite the database file to free space; it is locked meanwhile.")
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
    """Deletes runs that ended some time ago, with their events, messages, feedback and callbacks.

    Without --older-than, HEADRACE_RETENTION_DAYS applies. Data that nothing refers to is deleted as well: stored files
    unused for as long (at least a day) and, unless --status is given, empty batches and conversations. Ctrl-C is safe;
    the next call continues.
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
            freed_bytes = 0 if dry_run else await pruner.shrink()
            if vacuum and not dry_run:
                await pruner.vacuum()
            return total, freed_bytes

    counts, freed = wait_for(work())
    if as_json:
        click.echo(json.dumps({**counts._asdict(), "dry_run": dry_run}, indent=2))
        return
    room = f" ({size(counts.file_bytes)} of files)" if counts.files else ""
    click.echo(f"{'Would delete' if dry_run else 'Deleted'} {in_words(counts)}{room}.")
    if freed:
        say(f"{size(freed)} of the database were freed.")


def _seconds(settings: Settings, older_than: float | None, statuses: tuple[str, ...]) -> Mapping[str, float]:
    """Retention in seconds by status."""
    if older_than is not None:
        return dict.fromkeys(statuses or FINAL, older_than)
    retention = settings.retention
    if not retention:
        raise BadUsage("give an age: --older-than 30d, or HEADRACE_RETENTION_DAYS")
    if missing := [status for status in statuses if status not in retention]:
        raise BadUsage(f"HEADRACE_RETENTION_DAYS keeps {', '.join(missing)} forever; give an age with --older-than")
    return {status: retention[status] for status in statuses or retention}


# ------------------------------------------------------------------------------------------------------------- backups


@db.command(short_help="Writes a backup, while a server runs.")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--without-files", is_flag=True, help="Leave out the stored files.")
@click.option("--force", is_flag=True, help="Replace FILE.")
@data_option
def backup(file: Path, without_files: bool, force: bool, data: Path | None) -> None:
    """Writes a backup to FILE: a tar of the database as of now, the installation's secret and the stored files, with
    checksums. It is compressed if FILE ends in .gz or .tgz.

    It contains the hashes of all keys, the secret and all data, so only its owner can read it. Workflow files and the
    environment are not included.
    """
    from headrace import backup

    settings = _settings(data)
    package = backup.back_up(settings, file, files=not without_files, force=force)
    click.echo(f"{file}: schema {package.manifest.revision}, {_count(package.files)}, {size(package.size)}.")
    if settings.files_url and not without_files:
        say("The stored files are in the bucket of HEADRACE_FILES_URL, and not in the backup.")
    if package.missing:
        say(f"Missing in the data folder, though the database refers to them: {_count(package.missing)}.")


@db.command(short_help="Restores a backup into a data folder.")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--force", is_flag=True, help="Replace the installation that is in the folder.")
@data_option
def restore(file: Path, force: bool, data: Path | None) -> None:
    """Restores a backup FILE into the data folder (--data), which must be empty. The backup is verified first, and
    restored as a whole or not at all.

    A server that is started on it continues the runs that were active. Do not keep the original server running: both
    would run them.
    """
    from headrace import backup

    settings = _settings(data, must_exist=False)
    package = backup.restore(settings, file, force=force)
    click.echo(f"{settings.data}: schema {package.manifest.revision}, {_count(package.files)}, {size(package.size)}.")
    if not package.manifest.files:
        say("The backup was made without stored files: links to them, and runs that need them, fail.")


@db.command("import", short_help="Copies a data folder into PostgreSQL.")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
def import_(folder: Path) -> None:
    """Copies the installation of a data FOLDER (apps, keys, runs, conversations, knowledge bases, stored files) into
    the empty PostgreSQL database of HEADRACE_DATABASE_URL, and its files to HEADRACE_FILES_URL.

    Stop its server first. Runs that had not ended continue where the new database is served; do not start the old
    server again. A database of an older version is migrated first.
    """
    from headrace import backup

    settings = _settings(None, must_exist=False)
    result = wait_for(backup.import_folder(settings, folder))
    rows = result.rows
    click.echo(f"Copied {rows['apps']} apps, {rows['keys']} keys, {rows['runs']} runs, {_count(result.files)}.")
    say(f"The secret is in {result.secret}.")


def _count(files: int) -> str:
    return f"{files} stored file{'s' if files != 1 else ''}"


def size(count: int) -> str:
    """A number of bytes with a unit."""
    if count < 0:
        return "unknown"
    amount: Any = count
    for unit in ("bytes", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.1f} {unit}" if unit != "bytes" else f"{amount} bytes"
        amount /= 1000
    return f"{amount:.1f} TB"
