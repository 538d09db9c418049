"""Opening media files and decoding them, whatever state they are in.

Everything that a file can do wrong ends in one of two errors, whose messages are reasons in words for `rejects.csv`:
`RejectedError` (nothing can be had from the file) and `DamagedError` (decoding cannot go on from here). What storage
does wrong is a `StorageError`, and says nothing about the file.
"""

import contextlib
import errno
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction

import av

from cmav.media.media_file import DamagedError, MediaFile, MissingFileError, RejectedError

__all__ = ["DamagedError", "MissingFileError", "RejectedError", "StreamReader", "audio_stream", "memory_in_words"]
__all__ += ["no_frame", "video_stream", "words"]

# Containers that hold their media themselves, and streams of a single codec. Not: what names other files or addresses
# (concat, hls, dash, image2, sdp, rtsp, imf, vobsub, ...), makes up pictures (lavfi), opens devices, or is text. Nor
# could those that are here reach another file: they are given the bytes of one, and no protocol.
FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpegtsraw,mpeg,flv,live_flv,asf,asf_o,ogg,mxf,gxf,nut,rm,dv,wtv,nsv"
    ",gif,yuv4mpegpipe,mpegvideo,m4v,h261,h263,h264,hevc,vvc,av1,obu,ivf,vc1,dirac,cavsvideo,mjpeg"
    ",wav,w64,aiff,au,caf,voc,flac,mp3,aac,latm,loas,ac3,eac3,dts,dtshd,truehd,mlp,amr,amrnb,amrwb,ape,wv,tta,mpc,mpc8,tak"
)
# A file of a kilobyte may claim pictures of a billion pixels, and a decoder would ask for the memory of several.
MAX_PIXELS = 1 << 26  # of a picture: 8192 x 8192, twice those of 8K
MIN_MEMORY = 8 * MAX_PIXELS  # bytes: a picture of this size, of four channels of 16 bits
MAX_STREAMS = 1000  # of a file; each takes some memory
# A day of pictures at 240 per second are 21 million. Thousands of frames can be packed into a kilobyte.
MAX_FRAMES = 1 << 25  # of a stream
MAX_SECONDS = 24 * 3600  # of one video, or the part of it that is used

# Decoders recover from a broken packet at the next keyframe, so errors are counted in a row. The limits bound the time
# that a file of garbage can take.
MAX_BROKEN_PACKETS = 250  # in a row, about ten seconds of video
MAX_BROKEN_AT_END = 10  # a few broken packets at the very end cost less than a cut drops anyway
MAX_CUT_OFF = 1  # seconds that no stream reaches of the duration that the header says, as in a download that broke off

# A part that begins late is reached by way of the index of these formats. It begins to decode some seconds earlier, so
# that decoders have settled, and packets of the other stream that lie a little apart in the file are not missed.
SEEKABLE_FORMATS = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm")
SEEK_MARGIN = 5  # seconds

_NOT_SHOWN = av.stream.Disposition.attached_pic | av.stream.Disposition.timed_thumbnails
# PyAV raises the last two where a broken file surprises it, such as with a stream that was not in the header.
_MEDIA_ERRORS = (av.FFmpegError, IndexError, ValueError)
_CODEC_OPTIONS = {"max_pixels": str(MAX_PIXELS)}
_OPTIONS = {"format_whitelist": FORMATS, "protocol_whitelist": "none", "max_streams": str(MAX_STREAMS)} | _CODEC_OPTIONS

Stream = av.VideoStream | av.AudioStream
Frame = av.VideoFrame | av.AudioFrame


class StreamReader:
    """One stream of a media file, decoded from its own opening of the file.

    Two readers of a file each go through it at their own pace, so that neither has to keep what the other has not
    asked for yet, however far apart the streams' packets lie in the file.

    Attributes:
      stream: what `choose` chose; None where there is none such.
    """

    def __init__(
        self,
        path: str,
        choose: Callable[[av.container.InputContainer], Stream | None],
        alive: Callable[[], None],
    ):
        """Opens a file.

        Args:
          path: the file, local or with a scheme that `tf.io.gfile` knows.
          choose: picks the stream: `video_stream` or `audio_stream`.
          alive: called at every packet, so that a watcher sees that the decoder does not hang.

        Raises:
          RejectedError: where it is no media file, or by `choose`; MissingFileError where it is not there.
          StorageError: where storage does not answer, here as in `frames`.
        """
        self._choose, self._alive = choose, alive
        self._fresh = False
        self._file = MediaFile(path, alive)
        try:
            self._open()
        except BaseException:
            self._file.close()
            raise

    def close(self) -> None:
        self._container.close()
        self._file.close()

    def frames(self, since: Fraction | None = None) -> Iterator[Frame]:
        """Yields the stream's frames in the order of the decoder, from the start; ends an earlier call's frames.

        Packets that do not decode are skipped.

        Args:
          since: seconds on the container's clock; frames before may be left out.

        Raises:
          DamagedError: where too many packets in a row do not decode, or the last ones do not.
          MemoryError: where there is not enough for the next frame.
        """
        if since is not None and self._seek(since - SEEK_MARGIN):
            frames = self._decode()
            try:
                first = next(frames, None)
            except DamagedError:
                first = None
            if first is not None and first.pts is not None and first.pts * first.time_base <= since:
                yield first
                yield from frames
                return
        if not self._fresh:
            self._container.close()
            self._open()
        yield from self._decode()

    def _open(self) -> None:
        self._file.seek(0)
        try:
            # Tags that are not UTF-8 are common in old files and must not matter.
            self._container = av.open(self._file, metadata_errors="replace", options=_OPTIONS)
        except _MEDIA_ERRORS as error:
            self._check_file()
            raise RejectedError(f"cannot be opened ({_opening_words(error)})") from error
        self._check_file()
        self._file.packet_found()
        self.stream = self._choose(self._container)
        if self.stream is not None:
            # There is a worker per core already, and with one thread errors come in the same order each time.
            self.stream.codec_context.thread_count = 1
            self.stream.codec_context.options = _CODEC_OPTIONS
        self._fresh = True

    def _check_file(self) -> None:
        try:
            self._file.check()
        except DamagedError as error:
            raise RejectedError(f"cannot be opened ({error})") from error

    def _seek(self, time: Fraction) -> bool:
        """Goes to before a time. Returns False where it is not worth it, or cannot be trusted."""
        video = self._container.streams.best("video")
        if self._container.format.name not in SEEKABLE_FORMATS or video is None:
            return False
        if time <= (video.start_time or 0) * video.time_base:
            return False
        self._fresh = False
        try:
            self._container.seek(int(time / video.time_base), stream=video)
        except _MEDIA_ERRORS:
            return False
        finally:
            self._file.check()
        return True

    def _decode(self) -> Iterator[Frame]:
        self._fresh = False
        broken, reason, num_frames = 0, "", 0
        reached: dict[int, int] = {}  # of each stream, in its ticks
        packets = self._container.demux()
        while True:
            try:
                self._alive()
                packet = next(packets, None)
                self._file.check()  # a packet that storage cut short is none, and its end not the file's
                self._file.packet_found()
                if packet is None:
                    break
                index = packet.stream.index
                if packet.pts is not None:
                    reached[index] = max(reached.get(index, 0), packet.pts + (packet.duration or 0))
                if index != self.stream.index:
                    continue
                frames = packet.decode()
            except av.EOFError:
                self._file.check()
                break
            except _MEDIA_ERRORS as error:
                self._file.check()
                if isinstance(error, MemoryError):
                    # Broken packets ask for absurd amounts too. Where there is none for a sound picture, it is short.
                    bytearray(MIN_MEMORY)
                broken, reason = broken + 1, words(error)
                if broken > MAX_BROKEN_PACKETS:
                    raise DamagedError(reason) from error
                packets = self._container.demux()  # an error ends the iterator, but not the file
                continue
            if frames:
                broken = 0
            num_frames += len(frames)
            if num_frames > MAX_FRAMES:
                raise DamagedError(f"it has more than {MAX_FRAMES:,} frames")
            yield from frames
        if broken > MAX_BROKEN_AT_END:
            raise DamagedError(reason)
        declared = self._declared_end()
        ends = (ticks * self._container.streams[index].time_base for index, ticks in reached.items())
        if max(ends, default=Fraction(0)) < declared - MAX_CUT_OFF:
            raise DamagedError(f"the file breaks off, its header says {float(declared):.1f} s")

    def _declared_end(self) -> Fraction:
        """Where the header says that the file ends, on the container's clock, in seconds."""
        # Matroska's duration counts from zero, that of others from their first timestamp.
        start = 0 if self._container.format.name == "matroska,webm" else self._container.start_time or 0
        return Fraction(start + (self._container.duration or 0), av.time_base)


def video_stream(container: av.container.InputContainer) -> av.VideoStream:
    """Returns the main video stream; cover pictures do not count.

    Raises:
      RejectedError: where there is none, or no decoder for it, or its pictures are larger than `MAX_PIXELS`.
    """
    streams = [s for s in container.streams.video if not s.disposition & _NOT_SHOWN]
    if not streams:
        raise RejectedError("no video stream")
    stream = _best(container, streams)
    width, height = stream.codec_context.width, stream.codec_context.height
    if width * height > MAX_PIXELS:
        raise RejectedError(f"its pictures are too large ({width} x {height}, more than {MAX_PIXELS:,} pixels)")
    return stream


def audio_stream(container: av.container.InputContainer) -> av.AudioStream | None:
    """Returns the main audio stream, None where there is none.

    Raises:
      RejectedError: where there is no decoder for any.
    """
    return _best(container, container.streams.audio) if container.streams.audio else None


def no_frame(stream: av.VideoStream, why: str = "") -> RejectedError:
    """What to raise where no frame of a stream can be decoded."""
    if not why:  # FFmpeg forgets a size that is larger than it may be.
        why = "it holds none" if stream.codec_context.width else f"none, or none below {MAX_PIXELS:,} pixels"
    return RejectedError(f"no frame of its video can be decoded ({why})")


@contextlib.contextmanager
def memory_in_words() -> Iterator[None]:
    """Makes a rejection of a want of memory, which a worker has only so much of (see `cmav.media.isolated`)."""
    try:
        yield
    except MemoryError as error:
        raise RejectedError("it needs more memory than a worker may take") from error


def words(error: Exception) -> str:
    """The error without its number and the file's path, so that equal reasons read alike."""
    if isinstance(error, av.FFmpegError) and error.errno == errno.EIO:  # Storage's own errors do not come this way.
        return "it breaks off, or is damaged"
    return getattr(error, "strerror", None) or getattr(error, "message", None) or str(error) or type(error).__name__


def _opening_words(error: Exception) -> str:
    if isinstance(error, av.ArgumentError):  # what FFmpeg says of a format that is not in the list
        return "damaged, or in no format of `media.FORMATS`"
    if isinstance(error, MemoryError):  # what FFmpeg says of too many streams, and of sizes that are out of all reason
        return "its header asks for more memory, or more streams, than it may have"
    return words(error)


def _best(container: av.container.InputContainer, streams: Sequence[Stream]) -> Stream:
    """The stream that FFmpeg would play, if it is among these and can be decoded; else the first that can."""
    best = container.streams.best(streams[0].type)
    index = None if best is None else best.index
    for stream in sorted(streams, key=lambda stream: stream.index != index):
        if stream.codec_context is not None:
            return stream
    raise RejectedError(f"no decoder for its {streams[0].type}")
