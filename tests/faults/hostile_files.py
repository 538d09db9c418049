"""Makes files that are hostile or broken, each by its name, the same bytes every time.

python -m tests.faults.hostile_files FOLDER
"""

import gzip
import os
import pathlib
import random
import struct
import sys
import zipfile
import zlib
from collections.abc import Callable
from fractions import Fraction

import av

from tests.media.sample_videos import Sound, numbered, steady_times, write_sound, write_video

SECRET = "secret.mkv"  # what a playlist would reach: a good video that lies beside the folder

Maker = Callable[[pathlib.Path], object]


def make(folder: pathlib.Path) -> list[str]:
    """Makes all of them below a folder, which is there. Returns their names, as text that `os.fsencode` takes."""
    good = folder.parent / "seed.mkv"
    _video(good)
    names = []
    for name, maker in {**_playlists(folder), **_broken(good.read_bytes()), **_bombs(), **_no_files()}.items():
        maker(folder / name)
        names.append(name)
    for name in ODD_NAMES:
        (folder / name).write_bytes(b"no video")
        names.append(name)
    return names


ODD_NAMES = [
    "line\nbreak.mp4",
    "quote\"s'.mp4",
    ".hidden.mp4",
    "-dash.mp4",
    "percent%03d.mp4",
    "http:colon.mp4",
    "unicode-\u202e\U0001f600.mp4",
    os.fsdecode(b"not-utf8-\xff\xfe.mp4"),
    "long-" + "x" * 240 + ".mp4",
    "glob[*]?.mp4",
    "  spaces  .mp4",
    "comma,semicolon;.mp4",
    "back\\slash.mp4",
]


def _text(text: str) -> Maker:
    return lambda path: path.write_text(text)


def _bytes(data: bytes) -> Maker:
    return lambda path: path.write_bytes(data)


def _playlists(folder: pathlib.Path) -> dict[str, Maker]:
    secret = folder.parent / SECRET
    hls = f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{secret}\n"
    return {
        "ffconcat.mp4": _text(f"ffconcat version 1.0\nfile {secret}\nfile {secret}\n"),
        "ffconcat-of-itself.mp4": _text("ffconcat version 1.0\n" + "file ffconcat-of-itself.mp4\n" * 20),
        "ffconcat-of-http.mp4": _text("ffconcat version 1.0\nfile http://127.0.0.1:9/v.mp4\n"),
        "hls.mp4": _text(hls),
        "hls-without-end.mp4": _text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXT-X-MEDIA-SEQUENCE:0\n"),
        "hls.ts": _text(hls),
        "dash.mp4": _text(
            '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period><AdaptationSet>'
            f"<Representation><BaseURL>file://{secret}</BaseURL></Representation></AdaptationSet></Period></MPD>"
        ),
        "sdp.mp4": _text("v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n"),
        "rtsp-redirect.mp4": _text("[Reference]\nRef1=http://127.0.0.1:9/v.asf\nRTSPtext\nrtsp://127.0.0.1:9/v\n"),
        "smil.mov": _text(f'<smil><body><video src="{secret}"/></body></smil>'),
        "imf.mp4": _text(
            '<CompositionPlaylist xmlns="http://www.smpte-ra.org/schemas/2067-3/2016"><Id>x</Id></CompositionPlaylist>'
        ),
        "vobsub.mp4": _text("# VobSub index file, v7 (do not modify this line!)\nid: en, index: 0\n"),
        "lrc.mp4": _text("[00:01.00]a song\n" * 9),
        "svg.mp4": _text(f'<svg xmlns="http://www.w3.org/2000/svg"><image href="{secret}"/></svg>'),
        "mov-reference.mov": _bytes(_reference_movie(str(secret))),
    }


def _broken(good: bytes) -> dict[str, Maker]:
    chance = random.Random(0)
    flipped = bytearray(good)
    for _ in range(40):
        flipped[chance.randrange(700, len(flipped))] = chance.randrange(256)
    return {
        "zero-length.mp4": _bytes(b""),
        "one-byte.mkv": _bytes(b"\x1a"),
        "random.mp4": _bytes(chance.randbytes(200_000)),
        "random-with-ftyp.mp4": _bytes(_box(b"ftyp", b"isom\0\0\0\0isom") + chance.randbytes(200_000)),
        "random-ts.ts": _bytes(b"".join(b"\x47" + chance.randbytes(187) for _ in range(2000))),
        "zeros.mp4": _bytes(bytes(200_000)),
        "header-only.mkv": _bytes(good[:400]),
        "flipped.mkv": _bytes(bytes(flipped)),
        "lfs-stub.mp4": _text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"),
        "html.mp4": _text("<html><body>404 Not Found</body></html>"),
        "no-moov.mp4": _bytes(_box(b"ftyp", b"isom\0\0\0\0isom") + _box(b"mdat", good)),
        "cyclic-boxes.mp4": _bytes(_box(b"ftyp", b"isom\0\0\0\0isom") + _nested(b"moov", 20_000)),
        "box-of-exabytes.mp4": _bytes(struct.pack(">I4sQ", 1, b"moov", 1 << 62) + bytes(1000)),
        "sound-only.mka.mp4": lambda path: (
            write_sound(f"{path}.mka", Sound(seconds=1)) and os.rename(f"{path}.mka", path)
        ),
    }


def _bombs() -> dict[str, Maker]:
    zeros = bytes(50_000_000)
    return {
        "huge-picture.avi": _bytes(_avi(30_000, 30_000)),
        "widest-picture.avi": _bytes(_avi((1 << 31) - 1, 1)),
        "mjpeg-65500.avi": _bytes(_avi(65_500, 65_500)),
        "png-bomb.mov": _png_bomb,
        "gzip.mp4": _bytes(gzip.compress(zeros, mtime=0)),
        "zip.mp4": lambda path: _zip(path, zeros),
        "compressed-header.mov": _bytes(_compressed_header(zeros)),
        "100000-tracks.mp4": _bytes(
            _box(b"ftyp", b"isom\0\0\0\0isom") + _box(b"moov", _box(b"trak", _box(b"mdia", b"")) * 100_000)
        ),
        "a-billion-samples.mp4": _bytes(_many_samples()),
        "sparse-100-gb.mp4": lambda path: _sparse(path, _box(b"ftyp", b"isom\0\0\0\0isom")),
        "sparse-100-gb.ts": lambda path: (_video(path), os.truncate(path, 100 << 30)),
        "sparse-100-gb.avi": lambda path: _sparse(path, _avi(64, 64)),
        "jumping-clock.mkv": lambda path: _video(path, [Fraction(k * 100_000) for k in range(4)]),
        "late-clock.mkv": lambda path: _video(path, [Fraction(10**9) + Fraction(k, 10) for k in range(4)]),
        "a-million-hertz.mkv": lambda path: _video(
            path, [Fraction(k, 1000) for k in range(40)], rate=Fraction(1_000_000)
        ),
    }


def _no_files() -> dict[str, Maker]:
    return {
        "folder.mp4": lambda path: path.mkdir(),
        "pipe.mp4": lambda path: os.mkfifo(path),
        "device.mp4": lambda path: os.symlink("/dev/zero", path),
        "terminal.mp4": lambda path: os.symlink("/dev/tty", path),
        "dangling.mp4": lambda path: os.symlink("nowhere", path),
        "loop.mp4": lambda path: os.symlink("loop.mp4", path),
        "below-a-file.mp4": lambda path: os.symlink("zeros.mp4/v.mp4", path),
        "memory-of-the-reader.mp4": lambda path: os.symlink("/proc/self/environ", path),
        "forbidden.mp4": lambda path: (path.write_bytes(b"no video"), path.chmod(0)),
    }


def _video(path: pathlib.Path, times: list[Fraction] | None = None, rate: Fraction | int = 10) -> None:
    times = times or steady_times(10, 1.2)
    write_video(str(path), times, numbered(len(times)), rate=rate, time_base=Fraction(1, 1000))


def _box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content


def _nested(kind: bytes, depth: int) -> bytes:
    return b"".join(struct.pack(">I4s", 8 * (depth - k), kind) for k in range(depth))


def _reference_movie(target: str) -> bytes:
    """A QuickTime movie that is nothing but the address of another."""
    address = target.encode() + b"\0"
    data = _box(b"rdrf", bytes(4) + b"url " + struct.pack(">I", len(address)) + address)
    return _box(b"ftyp", b"qt  \0\0\0\0qt  ") + _box(b"moov", _box(b"rmra", _box(b"rmda", data)))


def _compressed_header(content: bytes) -> bytes:
    packed = struct.pack(">I", 1 << 30) + zlib.compress(content)
    return _box(b"moov", _box(b"cmov", _box(b"dcom", b"zlib") + _box(b"cmvd", packed)))


def _many_samples() -> bytes:
    table = _box(b"stsz", struct.pack(">III", 0, 1, 1_000_000_000)) + _box(
        b"stts", struct.pack(">IIII", 0, 1, 10**9, 1)
    )
    media = _box(b"mdhd", struct.pack(">IIIIIHH", 0, 0, 0, 1000, 1000, 0, 0))
    media += _box(b"hdlr", bytes(8) + b"vide" + bytes(13)) + _box(b"minf", _box(b"stbl", table))
    return _box(b"ftyp", b"isom\0\0\0\0isom") + _box(b"moov", _box(b"trak", _box(b"mdia", media)))


def _avi(width: int, height: int) -> bytes:
    """A header that promises pictures of a size, and one frame of Motion JPEG that says so too."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return kind + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)

    main = struct.pack("<14I", 40_000, 0, 0, 0x10, 1, 0, 1, 0, width, height, 0, 0, 0, 0)
    stream = b"vidsMJPG" + struct.pack("<10I4H", 0, 0, 0, 1, 25, 0, 1, 0, 0, 0, 0, 0, 0, 0)
    form = struct.pack("<IiiHH4sIiiII", 40, width, height, 1, 24, b"MJPG", 0, 0, 0, 0, 0)
    lists = b"hdrl" + chunk(b"avih", main) + chunk(b"LIST", b"strl" + chunk(b"strh", stream) + chunk(b"strf", form))
    size = struct.pack(">HH", min(height, 65_500), min(width, 65_500))
    jpeg = b"\xff\xd8\xff\xc0\0\x11\x08" + size + b"\x03\x01\x22\0\x02\x11\x01\x03\x11\x01\xff\xd9"
    return (
        b"RIFF"
        + struct.pack("<I", 1 << 20)
        + b"AVI "
        + chunk(b"LIST", lists)
        + chunk(b"LIST", b"movi" + chunk(b"00dc", jpeg))
    )


def _sparse(path: pathlib.Path, start: bytes) -> None:
    path.write_bytes(start)
    os.truncate(path, 100 << 30)


def _png_bomb(path: pathlib.Path) -> None:
    """Pictures of 200 MB each in packets of 200 KB."""
    side = 8000

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    png = (
        b"\x89PNG\r\n\x1a\n"
        + head
        + chunk(b"IDAT", zlib.compress(bytes((3 * side + 1) * side), 1))
        + chunk(b"IEND", b"")
    )
    with av.open(str(path), "w") as container:
        stream = container.add_stream("png", rate=10)
        stream.width = stream.height = side
        stream.pix_fmt = "rgb24"
        for number in range(12):
            packet = av.Packet(png)
            packet.stream, packet.time_base, packet.is_keyframe = stream, Fraction(1, 1000), True
            packet.pts = packet.dts = 100 * number
            container.mux(packet)


def _zip(path: pathlib.Path, content: bytes) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo("v.mp4"), content, zipfile.ZIP_DEFLATED)


if __name__ == "__main__":
    target = pathlib.Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    print(*make(target), sep="\n")
