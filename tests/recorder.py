"""A callback beside nearhit: writes down what LiteLLM logs of each call."""

import json
import os
from pathlib import Path
from typing import Any

from litellm.integrations.custom_logger import CustomLogger

KEPT = ("cache_hit", "response_cost", "saved_cache_cost", "model_group", "stream", "status")


class Recorder(CustomLogger):
    async def async_log_success_event(
        self, kwargs: dict[str, Any], response_obj: Any, start_time: Any, end_time: Any
    ) -> None:
        payload = kwargs["standard_logging_object"]
        line = {name: payload.get(name) for name in KEPT}
        line["content"] = response_obj["choices"][0]["message"]["content"]
        line["usage"] = payload.get("completion_tokens")
        _append(json.dumps(line))


def _append(line: str) -> None:
    with Path(os.environ["RECORD"]).open("a", encoding="utf-8") as file:
        file.write(line + "\n")


recorder = Recorder()
