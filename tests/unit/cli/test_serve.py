from lightmem_server.config import Settings


def test_every_setting_has_a_flag() -> None:
    from lightmem_server.cli.serve import serve

    assert set(Settings.model_fields) <= {parameter.name for parameter in serve.params}
