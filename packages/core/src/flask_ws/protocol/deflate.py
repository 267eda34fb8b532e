"""permessage-deflate (RFC 7692): negotiation, compressing, and inflating up to a limit."""

from __future__ import annotations

import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wsproto.extensions import Extension
from wsproto.frame_protocol import CloseReason, Opcode, RsvBits

if TYPE_CHECKING:
    from wsproto.frame_protocol import FrameDecoder, FrameProtocol

__all__ = ["FAULTS", "Deflate", "DeflateParameters", "negotiate"]

NAME = "permessage-deflate"

#: Messages of fewer bytes are sent as they are: they fit into a packet either way, and deflate adds
#: about 5 bytes and 10 us of processor time.
THRESHOLD = 128
#: Our window, 2**12 bytes: a deflate context then takes about 32 KiB instead of 256 KiB, and an
#: inflate context 4 KiB instead of 32 KiB, for a few percent of compression.
WINDOW_BITS = 12
#: zlib's memLevel to match that window.
MEMORY_LEVEL = 5
#: A message that arrives in parts is inflated in pieces of this many bytes.
PIECE = 2**16
#: zlib cannot make raw deflate streams with a window of 2**8 bytes.
SMALLEST_WINDOW_BITS = 9

#: What is wrong with a message, by the close code that says so.
FAULTS = {1007: "invalid compressed data", 1009: "message too big"}

_TAIL = b"\x00\x00\xff\xff"
_DATA = frozenset({Opcode.TEXT, Opcode.BINARY, Opcode.CONTINUATION})


@dataclass(frozen=True)
class DeflateParameters:
    """What two endpoints agreed on (RFC 7692 section 7.1)."""

    server_no_context_takeover: bool = False
    client_no_context_takeover: bool = False
    server_max_window_bits: int = 15
    client_max_window_bits: int = 15

    def header(self, *, client_bits: bool) -> str:
        """Write them as an element of ``Sec-WebSocket-Extensions``.

        :param client_bits: whether ``client_max_window_bits`` may be named: in an answer, only
            if the offer named it.
        """
        parts = [NAME]
        if self.server_no_context_takeover:
            parts.append("server_no_context_takeover")
        if self.client_no_context_takeover:
            parts.append("client_no_context_takeover")
        if self.server_max_window_bits != 15:
            parts.append(f"server_max_window_bits={self.server_max_window_bits}")
        if client_bits:
            parts.append(f"client_max_window_bits={self.client_max_window_bits}")
        return "; ".join(parts)


def negotiate(offers: str) -> tuple[DeflateParameters, str] | None:
    """Choose the first offer of permessage-deflate that can be met.

    :param offers: the request's ``Sec-WebSocket-Extensions``.
    :return: the parameters and the response's header, or ``None`` if there is no usable offer.
    """
    for name, parameters in parse_extensions(offers):
        if name == NAME:
            accepted = _accept(parameters)
            if accepted is not None:
                return accepted, accepted.header(client_bits="client_max_window_bits" in parameters)
    return None


def parse_agreed(header: str) -> DeflateParameters | None:
    """Read a server's answer, as a client; ``None`` if it agreed to no compression.

    :raises ValueError: the answer is not one that RFC 7692 allows.
    """
    for name, parameters in parse_extensions(header):
        if name != NAME or parameters is None:
            raise ValueError(f"the server chose an extension that was not offered: {header}")
        bits = {"server_max_window_bits": 15, "client_max_window_bits": 15}
        flags = {"server_no_context_takeover": False, "client_no_context_takeover": False}
        for parameter, value in parameters.items():
            if parameter in flags and value is None:
                flags[parameter] = True
            elif parameter in bits and _window_bits(value):
                bits[parameter] = _window_bits(value)
            else:
                shown = parameter if value is None else f"{parameter}={value}"
                raise ValueError(f"the server answered {NAME} with a wrong parameter: {shown}")
        return DeflateParameters(*flags.values(), *bits.values())
    return None


def _accept(parameters: dict[str, str | None]) -> DeflateParameters | None:
    # RFC 7692 section 7: an unknown, invalid or valueless parameter declines the whole offer.
    server_bits = client_bits = 15
    for name, value in parameters.items():
        if name in ("server_no_context_takeover", "client_no_context_takeover"):
            if value is not None:
                return None
        elif name == "server_max_window_bits":
            server_bits = _window_bits(value)
        elif name == "client_max_window_bits":
            client_bits = 15 if value is None else _window_bits(value)
        else:
            return None
    if server_bits < SMALLEST_WINDOW_BITS or client_bits < 8:
        return None
    if "client_max_window_bits" in parameters:
        client_bits = min(client_bits, WINDOW_BITS)
    return DeflateParameters(
        "server_no_context_takeover" in parameters,
        "client_no_context_takeover" in parameters,
        min(server_bits, WINDOW_BITS),
        client_bits,
    )


def _window_bits(value: str | None) -> int:
    # 8 to 15 in decimal without leading zeros; 0 stands for anything else.
    return int(value) if value in {"8", "9", "10", "11", "12", "13", "14", "15"} else 0


def parse_extensions(header: str) -> Iterator[tuple[str, dict[str, str | None]]]:
    """Read a ``Sec-WebSocket-Extensions`` header (RFC 6455 section 9.1).

    A parameter that is named twice makes its element unusable: it is given as unknown.
    """
    for element in header.split(","):
        name, *rest = (part.strip() for part in element.split(";"))
        if not name:
            continue
        parameters: dict[str, str | None] = {}
        for part in rest:
            key, equals, value = (piece.strip() for piece in part.partition("="))
            if key in parameters:
                key = "named twice"
            parameters[key] = value.strip('"') if equals else None
        yield name.lower(), parameters


class Deflate(Extension):
    """permessage-deflate for one connection; it inflates no more than it is allowed.

    It is an extension for wsproto as well.

    :param parameters: what the handshake agreed on.
    :param client: whether this endpoint is the client.
    :param max_size: the largest message after inflation, in bytes; ``None`` for no limit.
    """

    name = NAME

    def __init__(
        self, parameters: DeflateParameters, *, client: bool, max_size: int | None
    ) -> None:
        # zlib takes none larger.
        self.max_size = None if max_size is None or max_size >= sys.maxsize else max_size
        if client:
            self._out_bits = parameters.client_max_window_bits
            self._in_bits = parameters.server_max_window_bits
            self._out_resets = parameters.client_no_context_takeover
            self._in_resets = parameters.server_no_context_takeover
        else:
            self._out_bits = parameters.server_max_window_bits
            self._in_bits = parameters.client_max_window_bits
            self._out_resets = parameters.server_no_context_takeover
            self._in_resets = parameters.client_no_context_takeover
        self._compressor: zlib._Compress | None = None
        self._decompressor: zlib._Decompress | None = None
        # For wsproto: whether the message that arrives is compressed, None between messages; and
        # whether the frame that arrives is a data frame, not a control frame inside a message.
        self._in_compressed: bool | None = None
        self._in_data = False
        # Of the message that arrives: its bytes after inflation; whether the decompressor has had
        # any of it; and whether a final block has come.
        self._inflated = 0
        self._begun = False
        self._final = False
        self._out_compressed = False

    def enabled(self) -> bool:
        """Say that the handshake agreed on it; required by wsproto."""
        return True

    def offer(self) -> bool | str:
        """Offer nothing: the handshake is made elsewhere; required by wsproto."""
        return False

    # Receiving

    def frame_inbound_header(
        self,
        proto: FrameDecoder | FrameProtocol,
        opcode: Opcode,
        rsv: RsvBits,
        payload_length: int,
    ) -> CloseReason | RsvBits:
        """Note whether the message is compressed: RSV1 of its first frame, and only there."""
        self._in_data = opcode in _DATA
        if rsv.rsv1 and (not self._in_data or opcode is Opcode.CONTINUATION):
            return CloseReason.PROTOCOL_ERROR
        if self._in_data and self._in_compressed is None:
            self._in_compressed = rsv.rsv1
            self.begin_message()
        return RsvBits(True, False, False)

    def frame_inbound_payload_data(
        self, proto: FrameDecoder | FrameProtocol, data: bytes
    ) -> bytes | CloseReason:
        """Inflate a part of a message."""
        if not (self._in_data and self._in_compressed):
            return data
        pieces = []
        for piece in self.inflate(data):
            if isinstance(piece, CloseReason):
                return piece
            pieces.append(piece)
        return b"".join(pieces)

    def frame_inbound_complete(
        self, proto: FrameDecoder | FrameProtocol, fin: bool
    ) -> bytes | CloseReason | None:
        """Inflate what is left at the end of a message."""
        if not (fin and self._in_data):
            return None
        compressed, self._in_compressed = self._in_compressed, None
        return self.end_message() if compressed else None

    def begin_message(self) -> None:
        """Begin a message, whose parts are given to :meth:`inflate`."""
        self._inflated = 0
        self._begun = self._final = False

    def inflate(self, data: bytes) -> Iterator[bytes | CloseReason]:
        """Inflate a part of a message, in small pieces, however large it becomes.

        :param data: a part of the payload.
        :return: the pieces; or, as the last of them, what is wrong.
        """
        more = bool(data)
        while more:
            piece = self._inflate(data, 0, PIECE)
            yield piece
            more = False
            if not isinstance(piece, CloseReason) and self._decompressor is not None:
                data = self._decompressor.unconsumed_tail
                # zlib may have more output without more input.
                more = len(piece) >= PIECE

    def end_message(self) -> bytes | CloseReason:
        """Inflate what is left at the end of a message."""
        # If no byte of the message has arrived, or nothing follows a final block, there is no
        # block that the tail could end.
        inflated = self._inflate(_TAIL, len(_TAIL)) if self._begun else b""
        if self._in_resets:
            self._decompressor = None
        return inflated

    def inflate_message(self, data: bytes) -> bytes | CloseReason:
        """Inflate a whole message.

        :param data: the payload.
        :return: the message, or what is wrong with it.
        """
        self.begin_message()
        inflated = self._inflate(data + _TAIL, len(_TAIL)) if data else b""
        if self._in_resets:
            self._decompressor = None
        return inflated

    def _inflate(self, data: bytes, tail: int, most: int = 0) -> bytes | CloseReason:
        """Inflate, up to one byte more than is allowed.

        :param data: compressed data.
        :param tail: how many bytes of it, at the end, the peer has not sent.
        :param most: how many bytes it may become now; 0 for any number.
        """
        self._begun = True
        decompressor = self._decompressor
        if decompressor is None:
            # Where a window of 2**8 bytes was agreed on, zlib may have used the next larger one.
            decompressor = self._decompressor = zlib.decompressobj(
                -max(self._in_bits, SMALLEST_WINDOW_BITS)
            )
        try:
            if self.max_size is not None:
                # One byte more than allowed tells a message at the limit from one past it.
                allowed = self.max_size - self._inflated + 1
                most = min(most, allowed) if most else allowed
            inflated = decompressor.decompress(data, most)
        except zlib.error:
            return CloseReason.INVALID_FRAME_PAYLOAD_DATA
        self._inflated += len(inflated)
        if self.max_size is not None and self._inflated > self.max_size:
            return CloseReason.MESSAGE_TOO_BIG
        if decompressor.eof:
            return self._inflate_rest(inflated, decompressor.unused_data, tail, most)
        return inflated

    def _inflate_rest(
        self, inflated: bytes, rest: bytes, tail: int, most: int
    ) -> bytes | CloseReason:
        """Inflate what follows a final block (RFC 7692 section 7.2.3.4): a new stream.

        :param inflated: what came before.
        :param rest: what follows.
        :param tail: as for :meth:`_inflate`.
        :param most: as for :meth:`_inflate`.
        """
        self._decompressor = None
        if self._final:
            # A final block may have two bytes, but the new stream costs 5 us and 7 KiB.
            return CloseReason.INVALID_FRAME_PAYLOAD_DATA
        self._final = True
        self._begun = False
        if len(rest) <= tail:
            return inflated
        more = self._inflate(rest, tail, most)
        return more if isinstance(more, CloseReason) else inflated + more

    # Sending

    def frame_outbound(
        self,
        proto: FrameDecoder | FrameProtocol,
        opcode: Opcode,
        rsv: RsvBits,
        data: bytes,
        fin: bool,
    ) -> tuple[RsvBits, bytes]:
        """Deflate a frame of a message that wsproto is about to send."""
        if opcode not in _DATA:
            return rsv, data
        if opcode is not Opcode.CONTINUATION:
            self._out_compressed = not fin or len(data) >= THRESHOLD
        if not self._out_compressed:
            return rsv, data
        if opcode is not Opcode.CONTINUATION:
            rsv = RsvBits(True, rsv.rsv2, rsv.rsv3)
        return rsv, self.deflate(data, fin=fin)

    def deflate(self, data: bytes | bytearray | memoryview, *, fin: bool = True) -> bytes:
        """Deflate a message, or a part of one.

        :param data: the payload.
        :param fin: whether it ends the message.
        """
        if self._compressor is None:
            self._compressor = make_compressor(self._out_bits)
        compressed = self._compressor.compress(data)
        if fin:
            compressed += self._compressor.flush(zlib.Z_SYNC_FLUSH)
            compressed = compressed[: -len(_TAIL)]
            if self._out_resets:
                self._compressor = None
        return compressed

    def start_anew(self) -> int:
        """Drop the compressor's history; return the size of the window, as a power of 2."""
        self._compressor = None
        return self._out_bits


def make_compressor(bits: int) -> zlib._Compress:
    """Make a raw deflate stream with a window of ``2**bits`` bytes."""
    return zlib.compressobj(
        zlib.Z_DEFAULT_COMPRESSION, zlib.DEFLATED, -bits, min(MEMORY_LEVEL, bits - 7 or 1)
    )
