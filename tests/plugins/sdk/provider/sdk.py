from dify_plugin import ToolProvider


class Provider(ToolProvider):
    def _validate_credentials(self, credentials: dict) -> None:
        pass
