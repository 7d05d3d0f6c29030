"""Settings: one frozen object, read once at start.

A setting comes from, weakest first: its default, the environment variable `LIGHTMEM_NAME`, the TOML file (`--config` or
`LIGHTMEM_CONFIG`), the flag `--name` of `lightmem serve`. An unknown name in any of them is an error that names the
nearest setting. pydantic was chosen to check them: widely used, well kept, one declaration each.
"""

from __future__ import annotations

import difflib
import ipaddress
import json
import os
import tomllib
import zoneinfo
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import platformdirs
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails

from lightmem_server.errors import ConfigError

PREFIX = "LIGHTMEM_"

OTHER_VARIABLES = frozenset({"LIGHTMEM_CONFIG", "LIGHTMEM_TARGET", "LIGHTMEM_API_KEY"})
"""Variables with our prefix that are not settings of the server: where its file is, and what clients read."""

Weight = Annotated[float, Field(ge=0, le=100)]


def split_address(listen: str) -> tuple[str, int]:
    """Host, without brackets, and port of an address to listen on. Raises ValueError."""
    host, separator, port = listen.rpartition(":")
    if not separator or not host or not port.isdecimal() or int(port) > 65_535:
        raise ValueError("must be HOST:PORT, such as 127.0.0.1:7420")
    return host.strip("[]"), int(port)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a host."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Settings(BaseModel):
    """Every setting of the server. Field descriptions are its manual: `lightmem serve --help` prints them."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    # Where
    data_dir: Path = Field(
        default_factory=lambda: Path(platformdirs.user_data_dir("lightmem", appauthor=False)),
        description="Folder of the database and the admin key. One server at a time.",
    )
    models_dir: Path = Field(
        default_factory=lambda: Path(platformdirs.user_cache_dir("lightmem", appauthor=False)) / "models",
        description="Folder of the converted models.",
    )
    listen: str = Field(
        "127.0.0.1:7420", description="Address and port, such as 127.0.0.1:7420 or [::1]:7420. Port 0 takes a free one."
    )
    tls_cert: Path | None = Field(
        None, description="Certificate chain, PEM. Needs tls_key. Read again when it changes, as the other two."
    )
    tls_key: Path | None = Field(None, description="Private key, PEM. Needs tls_cert.")
    tls_client_ca: Path | None = Field(
        None,
        description="Authorities, PEM, of which each client must show a certificate besides its key. Needs tls_cert.",
    )
    allow_insecure: bool = Field(
        False, description="Listen beyond loopback without TLS: keys and memories travel in the clear."
    )

    # Logs
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level that is logged.")
    log_content: bool = Field(
        False,
        description="Log the texts of exceptions too: they may quote what callers sent, which is logged nowhere else.",
    )
    log_format: Literal["json", "console"] = Field("json", description="json for machines, console for people.")

    # Models
    embedder: str = Field("bge-small-en-v1.5", description="Embedder, a name in the manifest.")
    selector: str = Field("lightmem-selector-l4", description="Selector (cross-encoder), a name in the manifest.")
    gate_selector: str = Field(
        "ms-marco-MiniLM-L-12-v2",
        description="Selector that consolidation's gate asks, a name in the manifest: what the gate wants of a statement was "
        "set for this one.",
    )
    writer: str = Field(
        "lite",
        description="Writer, for hypothetical queries: the profile small or standard, or a name in the manifest. lite: none.",
    )
    writer_threads: int = Field(
        1,
        ge=1,
        le=256,
        description="Threads of the Writer: what it takes from the cores that requests are answered with.",
    )
    max_queued_generations: int = Field(
        64, ge=1, le=100_000, description="Texts waiting for the Writer, beyond it RESOURCE_EXHAUSTED."
    )
    threads: int = Field(0, ge=0, le=256, description="Threads of each model. 0: the cores this process may use.")
    tokenizers: dict[str, Path] = Field(
        default_factory=dict,
        description="Names for RetrieveRequest.tokenizer and their files (tokenizer.json or *.model), as JSON or TOML.",
    )

    # Memory hierarchy
    stm_turns: int = Field(24, ge=1, le=1000, description="Most turns in the running conversation of one session.")
    stm_tokens: int = Field(1024, ge=16, le=100_000, description="Most tokens in it; the newest turn always stays.")
    mtm_capacity: int = Field(
        10_000,
        ge=100,
        le=10_000_000,
        description="Turns and summaries in search per user; beyond it the least useful are archived, pinned ones never.",
    )
    consolidation: Literal["off", "on"] = Field(
        "on", description="Whether turns are abstracted into summaries and facts in the background."
    )
    time_zone: str = Field("UTC", description='Where the users\' days begin, for what "yesterday" was: Europe/Paris.')
    consolidation_workers: int = Field(1, ge=1, le=64, description="Users that are consolidated at once.")
    consolidation_seconds_per_hour: float = Field(
        1200,
        ge=0,
        le=3600 * 64,
        description="Model time that consolidation may take of each namespace in any hour, in seconds. 0: no limit.",
    )
    consolidation_idle_seconds: float = Field(
        900,
        ge=1,
        le=30 * 86_400,
        description="After so long without a new turn, and so long after turns left the running conversation, a user is "
        "consolidated.",
    )
    consolidation_schedule_hours: float = Field(
        0, ge=0, le=24 * 365, description="How often every user with new turns is consolidated besides. 0: never."
    )
    consolidation_max_attempts: int = Field(
        8, ge=1, le=1000, description="After so many failures a user's consolidation waits until somebody asks for it."
    )
    shared_memory: Literal["off", "on"] = Field(
        "off",
        description="Whether tastes that enough users of a namespace tell of are kept for all of its users, without who has "
        "them: a shared LTM.",
    )
    shared_min_users: int = Field(
        5,
        ge=2,
        le=1_000_000,
        description="How many users have to say the same before it is shared; with fewer left it is deleted again.",
    )
    resident_bytes: int = Field(
        1 << 30, ge=1 << 20, description="Memory for users' partitions; beyond it the least recently used leave."
    )
    record_bytes: int = Field(
        32 << 20,
        ge=0,
        description="Memory for records that were read lately, of all users together; 0: each is read from the disk.",
    )
    ann_rows: int = Field(
        500_000,
        ge=0,
        description="Memories from which on a partition is searched approximately, through graphs that are built in the "
        "background; exactly until they are ready. 0: always exactly.",
    )
    language: str = Field(
        "english", description='Language of the lexical index: a name that Snowball knows, or "none" for no stemming.'
    )
    languages: dict[str, str] = Field(
        default_factory=dict, description="Language by namespace, where it is another one, as JSON or TOML."
    )
    rescore_vectors: bool = Field(
        True, description="Keep the vectors' low bytes for exact order; false saves half of their memory."
    )

    # Retrieval: defaults of a request's budget
    default_max_memories: int = Field(10, ge=1, le=100, description="max_memories where a request has none.")
    default_max_candidates: int = Field(32, ge=1, le=200, description="max_candidates where a request has none.")
    default_max_tokens: int = Field(1024, ge=1, le=32_768, description="max_tokens where a request has none.")
    default_deadline_ms: int = Field(
        150, ge=1, le=10_000, description="Retrieval deadline where a request has none, in ms."
    )

    # Limits, each with its reason
    max_message_bytes: int = Field(
        4 << 20, ge=1 << 10, le=64 << 20, description="Largest gRPC message: bounds what one caller can make us hold."
    )
    max_turns_per_request: int = Field(
        128, ge=1, le=1024, description="Turns in one WriteRequest: bounds one transaction and one embedding batch."
    )
    max_text_bytes: int = Field(
        32_768, ge=1, le=1 << 20, description="One turn's text: beyond it the embedder sees a small part anyway."
    )
    max_metadata_bytes: int = Field(
        8192, ge=0, le=1 << 20, description="Keys and values of one memory's metadata: they are held in memory."
    )
    max_inflight_requests: int = Field(
        256, ge=1, le=100_000, description="Requests at work at once, beyond it RESOURCE_EXHAUSTED: bounds the queue."
    )
    max_inflight_per_user: int = Field(
        0, ge=0, le=100_000, description="Of them at most so many of one user. 0: half, so that others find room."
    )
    max_streams_per_key: int = Field(
        1024, ge=1, le=100_000, description="Open Write streams of one key: bounds what one client can hold open."
    )
    max_streams: int = Field(4096, ge=1, le=1_000_000, description="Open Write streams in all: bounds their buffers.")
    max_working_requests: int = Field(
        0,
        ge=0,
        le=10_000,
        description="Retrievals that take the models' time at once; others wait in a line per user. 0: one more than of one "
        "user.",
    )
    max_working_per_user: int = Field(
        0, ge=0, le=10_000, description="Of them at most so many of one user, so that others find room. 0: two a core."
    )
    max_queue_seconds: float = Field(
        5, gt=0, le=600, description="How long a call may wait for its turn, beyond it RESOURCE_EXHAUSTED."
    )
    max_send_seconds: float = Field(
        30, gt=0, le=3600, description="How long a caller may leave a response unread before its call ends."
    )
    max_auth_failures_per_minute: int = Field(
        60,
        ge=1,
        le=1_000_000,
        description="Calls with bad keys from one address, beyond it RESOURCE_EXHAUSTED: bounds what they cost.",
    )
    max_queued_texts: int = Field(
        4096, ge=1, le=1_000_000, description="Texts waiting for a model, beyond it RESOURCE_EXHAUSTED."
    )
    drain_seconds: float = Field(
        10, ge=0, le=600, description="On SIGTERM: how long calls in progress may take to end."
    )

    @field_validator("data_dir", "models_dir", "tls_cert", "tls_key", "tls_client_ca")
    @classmethod
    def _expand_home(cls, path: Path | None) -> Path | None:
        return None if path is None else path.expanduser()

    @field_validator("tokenizers", "languages", mode="before")
    @classmethod
    def _parse_json(cls, value: object) -> object:
        """The environment and flags have text alone."""
        return json.loads(value) if isinstance(value, str) else value

    @field_validator("time_zone")
    @classmethod
    def _check_zone(cls, name: str) -> str:
        try:
            zoneinfo.ZoneInfo(name)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError("is no time zone of the IANA database, such as Europe/Paris") from None
        return name

    @field_validator("listen")
    @classmethod
    def _check_listen(cls, listen: str) -> str:
        split_address(listen)
        return listen

    @model_validator(mode="after")
    def _check_tls(self) -> Settings:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("tls_cert and tls_key are set together or not at all")
        if self.tls_client_ca is not None and self.tls_cert is None:
            raise ValueError("tls_client_ca needs tls_cert and tls_key")
        if self.tls_cert is None and not self.is_loopback and not self.allow_insecure:
            raise ValueError(
                f"listen={self.listen} is beyond loopback and needs tls_cert and tls_key, or allow_insecure=true"
            )
        return self

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        return is_loopback(split_address(self.listen)[0])

    @property
    def needed_models(self) -> tuple[str, ...]:
        """What must have been pulled before the server starts, besides a Writer."""
        gate = [self.gate_selector] if self.consolidation == "on" else []
        return tuple(dict.fromkeys([self.embedder, self.selector, *gate]))

    @property
    def min_shared_users(self) -> int | None:
        """How many users have to say the same for it to be shared; None: nothing is."""
        return self.shared_min_users if self.shared_memory == "on" else None

    @property
    def admin_key_file(self) -> Path:
        """Where the first start leaves the admin key; local clients look there."""
        return self.data_dir / "admin.key"


def load(
    flags: Mapping[str, Any] | None = None,
    *,
    config_file: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> Settings:
    """Read the settings.

    Args:
        flags: Setting name to value, the strongest source.
        config_file: TOML file; None: the one that LIGHTMEM_CONFIG names, if it does.
        environment: Instead of os.environ, for tests.

    Raises:
        ConfigError: Unknown or wrong setting, unreadable file. The message names where and what.
    """
    environment = os.environ if environment is None else environment
    from_environment = {
        name.removeprefix(PREFIX).lower(): value for name, value in environment.items() if _is_setting_variable(name)
    }
    _refuse_unknown(from_environment, where=f"the environment ({PREFIX}...)")
    if config_file is None and environment.get("LIGHTMEM_CONFIG"):
        config_file = Path(environment["LIGHTMEM_CONFIG"])
    from_file = _read_toml(config_file) if config_file is not None else {}
    _refuse_unknown(from_file, where=str(config_file))
    from_flags = dict(flags or {})
    _refuse_unknown(from_flags, where="the flags")
    try:
        return Settings.model_validate({**from_environment, **from_file, **from_flags})
    except ValidationError as error:
        raise ConfigError("; ".join(_describe(problem) for problem in error.errors())) from error


def _is_setting_variable(name: str) -> bool:
    return name.startswith(PREFIX) and name not in OTHER_VARIABLES


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the settings file {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not a TOML file: {error}") from error


def _refuse_unknown(names: Iterable[str], *, where: str) -> None:
    for name in names:
        if name not in Settings.model_fields:
            nearest = difflib.get_close_matches(name, Settings.model_fields, n=1)
            hint = f"; did you mean '{nearest[0]}'?" if nearest else ""
            raise ConfigError(f"unknown setting '{name}' in {where}{hint}")


def _describe(problem: ErrorDetails) -> str:
    name = ".".join(str(part) for part in problem["loc"])
    message = problem["msg"].removeprefix("Value error, ")
    return f"setting '{name}': {message}" if name else message
