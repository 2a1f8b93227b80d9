"""Every private hook of Chalice that the shim and the runner use, so that an upgrade that moves one fails here first."""

import inspect
from pathlib import Path

import chalice.cli
import chalice.cli.factory
import pytest
from chalice import Chalice, local
from chalice.config import Config
from chalice.deploy import packager

from infra import localdev


def parameters(function: object) -> list[str]:
    return list(inspect.signature(function).parameters)  # type: ignore[arg-type]


def test_local_servers_are_made_by_a_module_attribute_that_is_looked_up_late() -> None:
    source = inspect.getsource(chalice.cli.factory.CLIFactory.create_local_server)
    assert "local.create_local_server(app_obj, config, host, port)" in source


def test_create_local_server_takes_app_config_host_and_port() -> None:
    wanted = ["app_obj", "config", "host", "port"]
    assert parameters(localdev.create_local_server) == wanted
    assert list(inspect.signature(chalice.cli.factory.CLIFactory.create_local_server).parameters)[1:] == wanted


def test_the_dev_server_takes_a_handler_and_a_server_class() -> None:
    assert parameters(local.LocalDevServer.__init__)[1:] == ["app_object", "config", "host", "port", "handler_cls", "server_cls"]
    source = inspect.getsource(local.LocalDevServer.__init__)
    assert "app_object=app_object, config=config" in source
    assert "self.server = server_cls((host, port), self._wrapped_handler)" in source
    assert {"serve_forever", "shutdown"} <= vars(local.LocalDevServer).keys()


def test_an_app_becomes_thread_safe_by_a_change_of_class() -> None:
    assert issubclass(local.CustomLocalChalice, local.LocalChalice)
    assert isinstance(local.LocalChalice.__dict__["current_request"], property)


def test_the_gateway_looks_its_parts_up_by_name() -> None:
    source = inspect.getsource(local.LocalGateway.__init__)
    assert parameters(local.LocalGateway.__init__)[1:] == ["app_object", "config"]
    assert "LambdaEventConverter(" in source
    assert "RouteMatcher(list(app_object.routes))" in source
    assert "self._app_object.api.binary_types" in source


def test_the_gateway_handles_a_request_given_by_keywords() -> None:
    assert parameters(local.LocalGateway.handle_request)[1:] == ["method", "path", "headers", "body"]
    assert "except ValueError" in inspect.getsource(local.LocalGateway.handle_request)
    assert not issubclass(localdev.NoRoute, ValueError)


def test_the_route_matcher_gives_route_parameters_and_query() -> None:
    assert parameters(local.RouteMatcher.__init__)[1:] == ["route_urls"]
    assert parameters(local.RouteMatcher.match_route)[1:] == ["url"]
    assert local.RouteMatcher(["/b", "/a"]).route_urls == ["/a", "/b"]
    assert local.MatchResult._fields == ("route", "captured", "query_params")


def test_the_event_converter_asks_the_matcher_and_knows_the_binary_types() -> None:
    assert parameters(local.LambdaEventConverter.__init__)[1:] == ["route_matcher", "binary_types"]
    assert parameters(local.LambdaEventConverter.create_lambda_event)[1:] == ["method", "path", "headers", "body"]
    assert parameters(local.LambdaEventConverter._is_binary)[1:] == ["headers"]
    converter = local.LambdaEventConverter(local.RouteMatcher(["/a"]), ["*/*"])
    assert converter._binary_types == ["*/*"]
    assert converter.LOCAL_SOURCE_IP == "127.0.0.1"
    event = converter.create_lambda_event("GET", "/a?b=c", {}, b"x")
    assert set(event["requestContext"]) >= {"httpMethod", "resourcePath", "identity", "path"}
    assert set(event) >= {"headers", "pathParameters", "stageVariables", "multiValueQueryStringParameters", "body"}


def test_errors_of_the_gateway_carry_status_headers_and_body() -> None:
    error = local.LocalGatewayException({"a": "b"}, b"c")
    assert (error.CODE, error.headers, error.body) == (0, {"a": "b"}, b"c")


def test_the_threaded_server_is_a_socketserver() -> None:
    assert {"ThreadingMixIn", "TCPServer"} <= {base.__name__ for base in local.ThreadedHTTPServer.__mro__}


def test_the_runners_context_has_what_handlers_ask_for() -> None:
    assert parameters(local.LambdaContext.__init__)[1:4] == ["function_name", "memory_size", "max_runtime_ms"]
    context = local.LambdaContext("hourly", 128, 1000)
    assert 0 < context.get_remaining_time_in_millis() <= 1000
    assert {"aws_request_id", "function_name", "memory_limit_in_mb", "invoked_function_arn"} <= vars(context).keys()


def test_the_command_line_is_a_function_without_arguments() -> None:
    assert parameters(chalice.cli.main) == []
    assert {option for parameter in chalice.cli.local.params for option in parameter.opts} >= {"--host", "--port", "--autoreload"}


@pytest.mark.parametrize(
    ("host", "loopback"), [("127.0.0.1", True), ("127.1.2.3", True), ("localhost", True), ("0.0.0.0", False), ("", False)]
)
def test_only_loopback_hosts_are_served(host: str, loopback: bool) -> None:
    assert localdev.is_loopback(host) is loopback
    if not loopback:
        with pytest.raises(SystemExit, match="this machine only"):
            localdev.create_local_server(Chalice("refused"), Config.create(), host, 0)


def test_a_taken_port_is_one_line() -> None:
    first = localdev.create_local_server(Chalice("first"), Config.create(), "127.0.0.1", 0)
    with pytest.raises(SystemExit, match="cannot listen on"):
        localdev.create_local_server(Chalice("second"), Config.create(), "127.0.0.1", first.server.server_port)
    first.server.server_close()


def test_installing_replaces_three_attributes_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("RouteMatcher", "LambdaEventConverter", "create_local_server")
    for name in names:
        monkeypatch.setattr(local, name, getattr(local, name))
    before = dict(vars(local))
    localdev.install()
    changed = {name for name, value in vars(local).items() if before.get(name) is not value}
    assert changed <= set(names)
    assert all(getattr(local, name) is getattr(localdev, name) for name in names)


def test_the_deployed_function_never_loads_the_shim() -> None:
    root = Path(__file__).resolve().parents[2]
    importing = [path for path in (root / "chalicelib").rglob("*.py") if "infra" in path.read_text().split()]
    assert importing == []


def test_the_packager_looks_up_the_c_library_of_a_runtime_in_two_places() -> None:
    source = inspect.getsource(packager.DependencyBuilder)
    assert source.count("self._RUNTIME_GLIBC.get(") == 2
    assert isinstance(packager.DependencyBuilder._RUNTIME_GLIBC, dict)
    assert isinstance(packager.DependencyBuilder._DEFAULT_GLIBC, tuple)
