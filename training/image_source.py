"""Images and labels for the training loop: decoded as they are needed, or kept in memory."""

import sys
import time
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing

import psutil
import torch
import tqdm
from torch import Tensor

from training.dataset import Dataset, DatasetError
from training.stopping import leave_signals_to_parent

CACHES = ("none", "ram", "gpu")
_DECODED_AT_ONCE = 16  # images: enough to keep the workers busy, few enough for a steady bar

Indices = Iterable[list[int]]
Images = tuple[Tensor, Tensor]  # uint8 [n, C, R, R], float32 [n, label_dim]


class CacheError(OSError):
    """The images cannot be kept where they were to be; the message is one line for the user."""


class ImageSource(ABC):
    """Gives images and labels on a device. Made by `make_source`; to be closed."""

    def __init__(self, device: torch.device):
        self.device = device
        self._wait = 0.0
        self._open: weakref.WeakSet = weakref.WeakSet()

    @abstractmethod
    def _batches(self, indices: Indices) -> Iterator[Images]:
        """What `read` gives; ends whatever it started when it is closed."""

    def read(self, indices: Indices) -> Iterator[Images]:
        """For each list of n indices the images uint8 [n, C, R, R] and labels float32
        [n, label_dim] of these items, in their order.

        Takes indices ahead of what it gives. Raises DatasetError where an image cannot be read.
        """
        reading = self._timed(indices)
        self._open.add(reading)
        return reading

    def take_wait(self) -> float:
        """Seconds that readers waited for images since this was last asked."""
        seconds, self._wait = self._wait, 0.0
        return seconds

    def close(self) -> None:
        """Ends all readers, and with them the processes that decode for them."""
        for reading in list(self._open):
            reading.close()

    def _timed(self, indices: Indices) -> Iterator[Images]:
        with closing(self._batches(indices)) as batches:
            while True:
                start = time.perf_counter()
                batch = next(batches, None)
                self._wait += time.perf_counter() - start
                if batch is None:
                    return
                yield tuple(batch)


class LoaderSource(ImageSource):
    """Decodes each image when it is wanted, `prefetch` batches ahead in each of `workers`
    processes; without workers in this one."""

    def __init__(self, training_set: Dataset, device: torch.device, workers: int, prefetch: int):
        super().__init__(device)
        self.training_set = training_set
        self.workers, self.prefetch = workers, prefetch

    def _batches(self, indices: Indices) -> Iterator[Images]:
        pinned = self.device.type == "cuda"
        batches = _decoded(self.training_set, indices, self.workers, self.prefetch, pinned)
        return _on_device(batches, self.device)


class MemorySource(ImageSource):
    """Decodes every image once and keeps all of them as uint8, `on` the CPU or the device.

    A mirrored image is made of the one that is kept. Raises CacheError where the memory does not
    suffice for `copies` of the images, as many as there are processes that each keep one.
    """

    def __init__(
        self,
        training_set: Dataset,
        device: torch.device,
        on: torch.device,
        workers: int,
        copies: int = 1,
        verbose: bool = True,
    ):
        super().__init__(device)
        first: dict[int, int] = {}  # the item that each file is read for
        slots, mirrored = [], []
        for item in range(len(training_set)):
            details = training_set.get_details(item)
            first.setdefault(details.raw_idx, item)
            slots.append(details.raw_idx)
            mirrored.append(details.xflip)
        number = {raw: slot for slot, raw in enumerate(first)}
        unlike = [m != mirrored[first[raw]] for m, raw in zip(mirrored, slots, strict=True)]
        self._slots = torch.tensor([number[raw] for raw in slots], device=on)
        self._mirrored = torch.tensor(unlike, device=on) if any(unlike) else None
        self._labels = torch.tensor(training_set.all_labels(), device=on)
        shape = [len(first), *training_set.image_shape]
        _check_memory(training_set.name, shape, on, copies)
        self._images = torch.empty(shape, dtype=torch.uint8, device=on)
        self._fill(training_set, list(first.values()), workers, verbose)

    def _fill(self, training_set: Dataset, items: list[int], workers: int, verbose: bool) -> None:
        lists = (items[k : k + _DECODED_AT_ONCE] for k in range(0, len(items), _DECODED_AT_ONCE))
        gib = self._images.numel() / 2**30
        if verbose:
            print(f"Keeping {len(items)} images in memory, {gib:.1f} GiB", flush=True)
        bar = tqdm.tqdm(
            total=len(items),
            unit="img",
            desc="decoding",
            leave=False,
            disable=None if verbose else True,
            file=sys.__stderr__,
        )
        filled = 0
        with bar, closing(_decoded(training_set, lists, workers, prefetch=2)) as batches:
            for images, _ in batches:
                self._images[filled : filled + len(images)] = images.to(self._images.device)
                filled += len(images)
                bar.update(len(images))

    def _batches(self, indices: Indices) -> Iterator[Images]:
        return _on_device((self._pick(items) for items in indices), self.device)

    def _pick(self, items: list[int]) -> Images:
        pinned = self.device.type == "cuda"
        index = torch.tensor(items, pin_memory=pinned).to(self._slots.device, non_blocking=True)
        images, labels = self._images[self._slots[index]], self._labels[index]
        if self._mirrored is not None:
            flips = self._mirrored[index][:, None, None, None]
            images = torch.where(flips, images.flip(3), images)
        if pinned and images.device.type == "cpu":
            return images.pin_memory(), labels.pin_memory()
        return images, labels


def make_source(
    training_set: Dataset,
    device: torch.device,
    cache: str = "none",
    workers: int = 3,
    prefetch: int = 2,
    copies: int = 1,
    verbose: bool = True,
) -> ImageSource:
    """Where the loop gets its images from; the same ones, bit for bit, whatever `cache` is.

    Args:
        cache: 'none' decodes an image each time it is shown; 'ram' keeps all images as uint8 in
            this process's memory; 'gpu' keeps them on `device`, which must be a GPU.
        workers: processes that decode, 0: this one does.
        prefetch: batches that each of them decodes ahead, with cache 'none'.
        copies: processes on this machine that call this at the same time with cache 'ram'.
        verbose: shows the progress of decoding for a cache.

    Raises ValueError for another cache, CacheError where there is no GPU or memory does not
    suffice, DatasetError where an image cannot be read.
    """
    device = torch.device(device)
    if cache not in CACHES:
        raise ValueError(f"cache is '{cache}', must be one of {', '.join(CACHES)}")
    if cache == "none":
        return LoaderSource(training_set, device, workers, prefetch)
    if cache == "ram":
        cpu = torch.device("cpu")
        return MemorySource(training_set, device, cpu, workers, copies, verbose)
    if device.type != "cuda":
        raise CacheError(f"--cache=gpu: needs a GPU, the device is {device}; use --cache=ram")
    return MemorySource(training_set, device, device, workers, verbose=verbose)


def _decoded(
    training_set: Dataset, indices: Indices, workers: int, prefetch: int, pinned: bool = False
) -> Iterator[Images]:
    """Batches of a DataLoader; a DatasetError of a worker process is one line again."""
    loader = torch.utils.data.DataLoader(
        training_set,
        batch_sampler=indices,
        num_workers=workers,
        prefetch_factor=prefetch if workers else None,
        pin_memory=pinned,
        # Of its own: a loader that starts anew is to leave the random numbers of training alone.
        generator=torch.Generator(),
        worker_init_fn=leave_signals_to_parent,
    )
    try:
        yield from loader
        return
    except DatasetError as error:
        # torch has put the worker's whole traceback into the message, the error itself last.
        line = str(error).rstrip().splitlines()[-1]
        error.__traceback__ = None  # Its frames would keep the workers alive.
    raise DatasetError(line.removeprefix(f"{DatasetError.__module__}.DatasetError: "))


def _on_device(batches: Iterator[Images], device: torch.device) -> Iterator[Images]:
    """The batches on a GPU, each copied while the one before it is in use; on a CPU themselves."""
    if device.type != "cuda":
        return batches
    stream = torch.cuda.Stream(device)

    def copy(batch: Images) -> Callable[[], Images]:
        with torch.cuda.stream(stream):
            copies = tuple(tensor.to(device, non_blocking=True) for tensor in batch)
            done = stream.record_event()

        def use() -> Images:
            current = torch.cuda.current_stream(device)
            current.wait_event(done)
            for tensor in copies:
                tensor.record_stream(current)
            return copies

        return use

    return (use() for use in _one_ahead(batches, copy))


def _one_ahead(items: Iterator, begin: Callable) -> Iterator:
    """`begin(item)` for each item, begun before the one in front of it is given out."""
    with closing(items):
        begun = None
        for item in items:
            before, begun = begun, begin(item)
            if before is not None:
                yield before
        if begun is not None:
            yield begun


def _check_memory(name: str, shape: list[int], on: torch.device, copies: int) -> None:
    """Raises CacheError where images uint8 [N, C, H, W] do not fit, `copies` of them."""
    if on.type == "cuda":
        free, where, other = torch.cuda.mem_get_info(on)[0], "gpu", "ram or --cache=none"
    else:
        free, where, other = psutil.virtual_memory().available, "ram", "none"
    count, channels, height, width = shape
    needed = copies * count * channels * height * width
    if needed > free:
        times = f"{copies} x " if copies > 1 else ""
        raise CacheError(
            f"--cache={where}: {name} needs {times}{needed / copies / 2**30:.1f} GiB for {count} "
            f"images of {width}x{height}, {free / 2**30:.1f} GiB are free; use --cache={other}"
        )
