from pathlib import Path

import pytest

from lightmem_server.config import Settings, load
from lightmem_server.errors import ConfigError


def test_a_flag_beats_the_file_and_the_file_beats_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "lightmem.toml"
    file.write_text("stm_turns = 2\nstm_tokens = 200\n")
    environment = {"LIGHTMEM_STM_TURNS": "1", "LIGHTMEM_STM_TOKENS": "100", "LIGHTMEM_THREADS": "7"}

    settings = load({"stm_turns": "3"}, config_file=file, environment=environment)

    assert (settings.stm_turns, settings.stm_tokens, settings.threads) == (3, 200, 7)


def test_the_environment_names_the_file(tmp_path: Path) -> None:
    file = tmp_path / "lightmem.toml"
    file.write_text("threads = 3\n")
    assert load(environment={"LIGHTMEM_CONFIG": str(file)}).threads == 3


def test_variables_of_clients_are_not_settings() -> None:
    load(environment={"LIGHTMEM_TARGET": "x:1", "LIGHTMEM_API_KEY": "lm_x"})


@pytest.mark.parametrize(
    ("flags", "environment", "toml", "message"),
    [
        pytest.param({}, {"LIGHTMEM_STM_TURN": "1"}, "", "'stm_turn'.*did you mean 'stm_turns'", id="typo-environment"),
        pytest.param({}, {}, "lisen = 'x:1'", "'lisen'.*did you mean 'listen'", id="typo-file"),
        pytest.param({"thread": 1}, {}, "", "'thread' in the flags; did you mean 'threads'", id="typo-flag"),
        pytest.param({}, {}, "zzzzzzzzzzzz = 1", "unknown setting 'zzzzzzzzzzzz' in .*toml$", id="like-nothing"),
        pytest.param({}, {"LIGHTMEM_THREADS": "many"}, "", "'threads': Input should be a valid integer", id="type"),
        pytest.param({}, {"LIGHTMEM_THREADS": "-1"}, "", "'threads': .*greater than or equal to 0", id="range"),
        pytest.param({"listen": "7420"}, {}, "", "'listen': must be HOST:PORT", id="address"),
        pytest.param({"listen": "127.0.0.1:99999"}, {}, "", "'listen': must be HOST:PORT", id="port"),
        pytest.param({"tls_cert": "a.pem"}, {}, "", "tls_cert and tls_key are set together", id="half-of-tls"),
        pytest.param({"listen": "0.0.0.0:7420"}, {}, "", "beyond loopback and needs tls_cert", id="open-to-the-world"),
        pytest.param({}, {}, "threads = ", "not a TOML file", id="broken-file"),
        pytest.param({"tokenizers": "{"}, {}, "", "'tokenizers'", id="broken-json"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(
    tmp_path: Path, flags: dict[str, object], environment: dict[str, str], toml: str, message: str
) -> None:
    file = tmp_path / "lightmem.toml"
    file.write_text(toml)
    with pytest.raises(ConfigError, match=message):
        load(flags, config_file=file, environment=environment)


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read the settings file .*No such file"):
        load(config_file=tmp_path / "none.toml", environment={})


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "127.8.8.8:1", "[::1]:7420", "localhost:7420"])
def test_loopback_needs_no_tls(listen: str) -> None:
    assert load({"listen": listen}, environment={}).is_loopback


def test_beyond_loopback_with_consent() -> None:
    assert not load({"listen": "0.0.0.0:7420", "allow_insecure": True}, environment={}).is_loopback


def test_every_setting_is_described() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_languages_come_as_json_or_as_a_table(tmp_path: Path) -> None:
    assert load(environment={"LIGHTMEM_LANGUAGES": '{"de": "german"}'}).languages == {"de": "german"}
    file = tmp_path / "lightmem.toml"
    file.write_text('language = "none"\n[languages]\nde = "german"\n', "utf-8")
    settings = load(config_file=file, environment={})
    assert (settings.language, settings.languages) == ("none", {"de": "german"})


@pytest.mark.parametrize(
    ("flags", "needed"),
    [
        pytest.param({"gate_selector": "b"}, ("bge-small-en-v1.5", "a", "b"), id="gate"),
        pytest.param({"gate_selector": "a"}, ("bge-small-en-v1.5", "a"), id="same"),
        pytest.param({"gate_selector": "b", "consolidation": "off"}, ("bge-small-en-v1.5", "a"), id="no-gate"),
    ],
)
def test_a_server_needs_the_models_that_it_names_each_once(flags: dict[str, object], needed: tuple[str, ...]) -> None:
    assert load({"selector": "a", **flags}, environment={}).needed_models == needed
