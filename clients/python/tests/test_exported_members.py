import inspect

import lightmem_client


def test_all_is_sorted_as_ruff_sorts_it_and_complete() -> None:
    public = {
        name
        for name, value in vars(lightmem_client).items()
        if not name.startswith("_") and not inspect.ismodule(value)
    }
    assert public == set(lightmem_client.__all__)
    assert lightmem_client.__all__ == sorted(lightmem_client.__all__)


def test_both_clients_offer_the_same_calls() -> None:
    def calls(client: type) -> dict[str, list[str]]:
        return {
            name: list(inspect.signature(method).parameters)
            for name, method in vars(client).items()
            if inspect.isfunction(method) and not name.startswith("_")
        }

    assert calls(lightmem_client.Client) == calls(lightmem_client.AsyncClient)


def test_every_error_has_the_root() -> None:
    errors = [value for name, value in vars(lightmem_client).items() if name.endswith("Error")]
    assert len(errors) == 15
    assert all(issubclass(error, lightmem_client.LightMemError) for error in errors)
