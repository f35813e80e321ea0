"""Guardrails of these tests: one reads what goes in, one what comes out."""

from typing import Any

from fastapi import HTTPException
from litellm.integrations.custom_guardrail import CustomGuardrail
from litellm.integrations.custom_logger import CustomLogger


class BlocksInput(CustomGuardrail):
    async def async_pre_call_hook(
        self, user_api_key_dict: Any, cache: Any, data: dict[str, Any], call_type: str
    ) -> dict[str, Any]:
        if "forbidden" in str(data["messages"][-1]["content"]) and "sk-bob" in str(
            user_api_key_dict.api_key
        ):
            raise HTTPException(status_code=400, detail="input refused")
        return data


class BlocksOutput(CustomGuardrail):
    async def async_post_call_success_hook(
        self, data: dict[str, Any], user_api_key_dict: Any, response: Any
    ) -> Any:
        content = response.choices[0].message.content or ""
        if "poison" in content:
            raise HTTPException(status_code=400, detail="output refused")
        if "person-1" in content:
            response.choices[0].message.content = content.replace("person-1", "Ann")
        return response


class Policy(CustomLogger):
    """Answers in the model's place where the client's metadata say so, and edits streams."""

    async def async_pre_call_hook(
        self, user_api_key_dict: Any, cache: Any, data: dict[str, Any], call_type: str
    ) -> dict[str, Any]:
        if (data.get("metadata") or {}).get("requester_metadata", {}).get("refuse"):
            data["mock_response"] = "POLICY: no."
        return data

    async def async_post_call_streaming_iterator_hook(
        self, user_api_key_dict: Any, response: Any, request_data: dict[str, Any]
    ) -> Any:
        async for chunk in response:
            for choice in chunk.choices:
                if choice.delta.content:
                    choice.delta.content = choice.delta.content.replace("person-1", "Ann")
            yield chunk


policy = Policy()
