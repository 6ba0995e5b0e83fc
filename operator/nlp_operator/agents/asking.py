"""One question to a program in one of our pods. Nothing is taken for granted about the answer: what runs at
that address may be another's by now."""

from __future__ import annotations

import aiohttp


def open_session(timeout: float) -> aiohttp.ClientSession:
    """`timeout`: seconds for a whole question."""
    return aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=timeout),
        connector=aiohttp.TCPConnector(limit=0),
        # A packed answer would be bounded by nothing once unpacked; our programs pack none.
        auto_decompress=False,
    )


async def ask(session: aiohttp.ClientSession, address: str, port: int, path: str, largest: int) -> bytes:
    """The body of the answer, of at most `largest` bytes. Raises ValueError for any other answer, and what
    aiohttp raises when there is none."""
    host = f"[{address}]" if ":" in address else address
    # A redirect could point anywhere; our programs send none.
    async with session.get(f"http://{host}:{port}{path}", allow_redirects=False) as response:
        if response.status != 200:
            raise ValueError(f"the answer is HTTP {response.status}")
        body = await response.content.read(largest + 1)
        while not response.content.at_eof() and len(body) <= largest:
            body += await response.content.read(largest + 1 - len(body))
        if len(body) > largest:
            raise ValueError(f"the answer is longer than {largest} bytes")
        return body
