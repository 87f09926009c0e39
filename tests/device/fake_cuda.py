"""A CUDA device that is not there: faults between host and device, found on a machine without a GPU.

    with FakeCuda() as cuda:
        model.to("cuda"); train(...)      # computed on the CPU, with real values
    cuda.counts.waits                     # where the host waited for the device

Tensors stay plain CPU tensors, so autograd, optimisers, torch.func and linear algebra work as they are. Which device a
tensor is on is kept beside its storage, which views share. A TorchFunctionMode answers `x.device`, `x.to("cuda")`,
`torch.zeros(..., device="cuda")`, `x.numpy()` and generators; a TorchDispatchMode sees every ATen operation below
autograd, backward too, and refuses what a CUDA build refuses:

    - a CPU tensor of one or more dimensions together with a CUDA tensor (copies, and CPU indices of a CUDA tensor, are
      allowed; a CPU tensor of no dimension in element-wise operations only)
    - operations without a CUDA kernel (asked of this build's dispatcher), and products and the like of integers
    - `.numpy()`, `np.asarray` of a CUDA tensor; a CPU generator for CUDA random numbers, and the reverse

It counts kernel launches, and waits of the host for the device with file and line. `tests/device/test_fake_cuda.py` has
its rules, each with an example.

What it cannot find: wrong results of CUDA kernels, TF32, CUDA's own rules of autocast (those of the CPU are used),
races, time, several devices, torch.compile, NCCL, and code that asks a tensor's device in C++. Child processes are not
covered.
"""

import contextlib
import importlib
import sys
import threading
import types
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from tests.device.operations import ASKED, COPIES, FREE, INDEXING, NO_INTEGERS, SCALARS, WAITS

CUDA, CPU = torch.device("cuda", 0), torch.device("cpu")
_Generator, _autocast, _device = torch.Generator, torch.autocast, torch.device


class Fault(RuntimeError):
    """What a CUDA build refuses."""


class _FakeGenerator(_Generator):
    def __new__(cls, device: Any = "cpu"):
        made = super().__new__(cls)
        made._on = _device(device)
        return made

    def __init__(self, device: Any = "cpu"):
        pass

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return CUDA if self._on.type == "cuda" else self._on


class _FakeAutocast(_autocast):
    """bfloat16 of the CPU: its lists of operations differ from CUDA's."""

    def __init__(self, device_type: str, *args: Any, **kwargs: Any):
        super().__init__("cpu" if device_type == "cuda" else device_type, *args, **kwargs)


def _is_device(value: Any) -> bool:
    return isinstance(value, _device) or (
        isinstance(value, str) and value.split(":")[0] in ("cuda", "cpu", "meta", "mps")
    )


def _where() -> str:
    """File:line of the innermost frame of hypersiren."""
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_globals.get("__name__", "").startswith("hypersiren"):
            return f"{frame.f_code.co_filename.rpartition('hypersiren/')[2]}:{frame.f_lineno}"
        frame = frame.f_back
    return "?"


@dataclass
class Counts:
    """What happened since it was made.

    Attributes:
        launches: Operation -> times, but for views.
        waits: "why @ file:line" -> times.
    """

    launches: Counter[str] = field(default_factory=Counter)
    waits: Counter[str] = field(default_factory=Counter)


class _Dispatch(TorchDispatchMode):
    def __init__(self, device: "FakeCuda"):
        super().__init__()
        self.device = device

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return self.device._operation(func, args, kwargs or {})


class _Functions(TorchFunctionMode):
    def __init__(self, device: "FakeCuda"):
        super().__init__()
        self.device = device

    def __torch_function__(self, func, types, args=(), kwargs=None):
        return self.device._function(func, args, kwargs or {})


class FakeCuda:
    """The device, while it is entered.

    Args:
        memory: Its bytes, of which `memory_allocated` counts those in use. It is never out of them.

    Attributes:
        counts: Launches and waits; replace it to count anew.
    """

    # Of all such devices, as what a program keeps between two is on a GPU still: reference, where, bytes, whose.
    _tags: ClassVar[dict[int, tuple[StorageWeakRef, str, int, "FakeCuda"]]] = {}
    _sweep = 1000

    def __init__(self, memory: int = 80 * 2**30):
        self.memory = memory
        self.counts = Counts()
        self._local = threading.local()
        self._known: dict[Any, Any] = {}

    def __enter__(self) -> "FakeCuda":
        self._stack = contextlib.ExitStack()
        self._stack.__enter__()
        self._patch()
        self._enter_modes(self._stack)
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    def _enter_modes(self, stack: contextlib.ExitStack) -> None:
        stack.enter_context(_Dispatch(self))
        stack.enter_context(_Functions(self))
        # Backward in the calling thread, where the modes are. (CPU tensors: it is so anyway.)
        stack.enter_context(torch.autograd.set_multithreading_enabled(False))

    def _set(self, owner: Any, name: str, value: Any) -> None:
        missing = object()
        old = getattr(owner, name, missing)
        setattr(owner, name, value)
        self._stack.callback(lambda: delattr(owner, name) if old is missing else setattr(owner, name, old))

    def _patch(self) -> None:
        about = {"name": "Fake CUDA", "major": 9, "minor": 0, "total_memory": self.memory}
        stream = types.SimpleNamespace(is_capturing=lambda: False)
        answers: dict[Any, dict[str, Any]] = {
            torch.cuda: {
                "is_available": True,
                "device_count": 1,
                "current_device": 0,
                "is_initialized": True,
                "is_bf16_supported": True,
                "is_current_stream_capturing": False,
                "get_device_name": "Fake CUDA",
                "get_device_capability": (9, 0),
                "get_device_properties": types.SimpleNamespace(
                    **about, multi_processor_count=132, warp_size=32, gcnArchName=""
                ),
                **dict.fromkeys(("init", "_lazy_init", "set_device", "manual_seed", "manual_seed_all"), None),
                **dict.fromkeys(("empty_cache", "ipc_collect", "reset_peak_memory_stats"), None),
            },
            torch.accelerator: {
                "is_available": True,
                "device_count": 1,
                "current_device_index": 0,
                "current_accelerator": _device("cuda"),
                "current_stream": stream,
            },
        }
        for module, values in answers.items():
            for name, value in values.items():
                self._set(module, name, lambda *a, _value=value, **k: _value)
            self._set(module, "synchronize", lambda *a, **k: self._wait("synchronize"))
        for name in ("memory_allocated", "max_memory_allocated", "memory_reserved", "max_memory_reserved"):
            self._set(torch.cuda, name, lambda device=None: self._allocated())
        self._set(torch.cuda, "mem_get_info", lambda device=None: (self.memory - self._allocated(), self.memory))
        self._set(torch, "Generator", _FakeGenerator)
        self._set(torch, "autocast", _FakeAutocast)
        self._set(torch.amp, "autocast", _FakeAutocast)
        fake = self
        run = threading.Thread.run

        def run_with_modes(thread: threading.Thread) -> None:
            with contextlib.ExitStack() as stack:
                fake._enter_modes(stack)
                run(thread)

        self._set(threading.Thread, "run", run_with_modes)
        # Written in C++, it asks the tensors themselves; torch then moves numbers to the device that it says.
        group = torch.utils._foreach_utils._group_tensors_by_device_and_dtype

        def grouped(lists: Any, with_indices: bool = False) -> Any:
            found: dict[Any, Any] = {}
            for (device, dtype), value in group(lists, with_indices).items():
                first = next((t for column in value[0] for t in column if t is not None), None)
                on = fake.device_of(first) if first is not None else device
                found[on, dtype] = value
            return found

        for path in ("torch.utils._foreach_utils", "torch.nn.utils.clip_grad", "torch.optim.optimizer"):
            module = importlib.import_module(path)
            if hasattr(module, "_group_tensors_by_device_and_dtype"):
                self._set(module, "_group_tensors_by_device_and_dtype", grouped)
        # Python code of custom autograd functions runs inside torch.autograd.grad, where the function mode is off.
        backward = torch.autograd.function.BackwardCFunction.apply

        def apply(node: Any, *args: Any) -> Any:
            with _Functions(fake):
                return backward(node, *args)

        self._set(torch.autograd.function.BackwardCFunction, "apply", apply)

    @staticmethod
    def _key(x: torch.Tensor) -> Any:
        while torch._C._functorch.is_functorch_wrapped_tensor(x):
            x = torch._C._functorch.get_unwrapped(x)
        try:
            return torch._C.TensorBase.untyped_storage(x)
        except (NotImplementedError, RuntimeError):
            return None

    def tag(self, x: torch.Tensor) -> str:
        storage = self._key(x)
        if storage is None:
            return "any"
        found = self._tags.get(storage._cdata)
        return found[1] if found else "cpu"

    def put(self, x: Any, tag: str) -> Any:
        for each in tree_flatten(x)[0]:
            if isinstance(each, torch.Tensor) and (storage := self._key(each)) is not None:
                if tag == "cpu":
                    self._tags.pop(storage._cdata, None)
                else:
                    self._tags[storage._cdata] = (StorageWeakRef(storage), tag, storage.nbytes(), self)
        if len(self._tags) > self._sweep:
            FakeCuda._tags = {k: v for k, v in self._tags.items() if not v[0].expired()}
            FakeCuda._sweep = 2 * len(self._tags) + 1000
        return x

    def device_of(self, x: torch.Tensor) -> torch.device:
        return CUDA if self.tag(x) == "cuda" else torch._C.TensorBase.device.__get__(x)

    def _allocated(self) -> int:
        mine = [each for each in self._tags.values() if each[3] is self and each[1] == "cuda"]
        return sum(size for held, _, size, _ in mine if not held.expired())

    def _wait(self, what: str) -> None:
        self.counts.waits[f"{what} @ {_where()}"] += 1

    @property
    def _ambient(self) -> str:
        return getattr(self._local, "ambient", "cpu")

    def _call(self, ambient: str, func: Any, args: Any, kwargs: Any) -> Any:
        before = self._ambient
        self._local.ambient = ambient
        try:
            return func(*args, **kwargs)
        finally:
            self._local.ambient = before

    def _function(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        name = getattr(func, "__name__", "")
        if name == "__get__" and args:
            attribute = getattr(getattr(func, "__self__", None), "__name__", "")
            if attribute == "device":
                return self.device_of(args[0])
            if attribute in ("is_cuda", "is_cpu"):
                return (self.device_of(args[0]).type == "cuda") == (attribute == "is_cuda")
            return func(*args, **kwargs)
        if name in ASKED:
            return func(*args, **kwargs)
        if name in ("to", "cuda", "cpu") and isinstance(args[0], torch.Tensor):
            return self._to(name, func, args, kwargs)
        if name == "get_device":
            return 0 if self.tag(args[0]) == "cuda" else -1
        if name in ("numpy", "__array__", "__array_wrap__") and self.tag(args[0]) == "cuda":
            if not (name == "numpy" and kwargs.get("force")):
                raise TypeError(
                    "can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() to copy the tensor "
                    "to host memory first."
                )
            return func(*args, **kwargs)
        if name == "pin_memory" and isinstance(args[0], torch.Tensor):
            if self.tag(args[0]) == "cuda":
                raise Fault("cannot pin 'torch.cuda.FloatTensor' only dense CPU tensors can be pinned")
            return self.put(args[0].clone(), "cpu")
        if name == "is_pinned":
            return False
        if name == "tolist" and self.tag(args[0]) == "cuda":
            self._wait("tolist")
        tensors = [t for t in tree_flatten((args, kwargs))[0] if isinstance(t, torch.Tensor)]
        tags = {self.tag(t) for t in tensors}
        if name == "__deepcopy__":
            return self.put(func(*args, **kwargs), self.tag(args[0]))
        if name in ("backward", "grad", "jvp", "vjp") and "cuda" in tags:
            return self._call("any", func, args, kwargs)
        kwargs = dict(kwargs)
        target = kwargs.get("device")
        if target is None:
            spots = [i for i, a in enumerate(args) if _is_device(a) and not (i == 0 and isinstance(a, str))]
            if spots and name not in ("device", "set_default_device", "Generator"):
                target, args = args[spots[0]], list(args)
                args[spots[0]] = "cpu" if _device(target).type == "cuda" else target
        if target is not None:
            target = _device("cuda", target) if isinstance(target, int) else _device(target)
            if "device" in kwargs:
                kwargs["device"] = _device("cpu") if target.type == "cuda" else target
        pinned = kwargs.pop("pin_memory", False)
        if pinned and target is not None and target.type == "cuda":
            raise Fault("Only dense CPU tensors can be pinned")
        self._check_generator(args, kwargs, target, tensors)
        if target is not None and target.type in ("cuda", "cpu"):
            to = target.type
            made = self._call(to, func, args, kwargs)
            if name in ("tensor", "as_tensor", "asarray"):
                data = args[0] if args else kwargs.get("data")
                source = self.tag(data) if isinstance(data, torch.Tensor) else "cpu"
                if source != to:
                    self._wait(f"copy {source} to {to} ({name})")
                    made = self._call(to, torch.clone, (made,), {}) if name != "tensor" else made
                return self.put(made, to)
            return self.put(made, to) if isinstance(made, torch.Tensor) and target.type != "meta" else made
        if name == "new_tensor":
            on = self.tag(args[0])
            if on == "cuda" and not (isinstance(args[1], torch.Tensor) and self.tag(args[1]) == "cuda"):
                self._wait("copy cpu to cuda (new_tensor)")
            return self.put(self._call(on, func, args, kwargs), on)
        if name in ("tensor", "as_tensor", "asarray"):
            data = args[0] if args else kwargs.get("data")
            source = self.tag(data) if isinstance(data, torch.Tensor) else "cpu"
            return self.put(self._call(source, func, args, kwargs), source)
        return self._call("cuda" if "cuda" in tags else "cpu", func, args, kwargs)

    def _check_generator(self, args: Any, kwargs: Any, target: Any, tensors: list[torch.Tensor]) -> None:
        for each in [*args, *kwargs.values()]:
            if isinstance(each, _Generator):
                has = each.device.type
                wanted = target.type if target is not None else self.device_of(tensors[0]).type if tensors else "cpu"
                if has != wanted:
                    raise Fault(f"Expected a '{wanted}' device type for generator but found '{has}'")

    def _to(self, name: str, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        x, rest = args[0], list(args[1:])
        target, dtype = kwargs.get("device"), kwargs.get("dtype")
        other = kwargs.get("other")
        flags = [a for a in rest if isinstance(a, bool)]
        for each in rest:
            if isinstance(each, torch.Tensor):
                other = each
            elif isinstance(each, torch.dtype):
                dtype = each
            elif not isinstance(each, bool) and (isinstance(each, int) or _is_device(each)):
                target = _device("cuda", each) if isinstance(each, int) else each
        if other is not None:
            target, dtype = self.device_of(other), other.dtype
        if name in ("cuda", "cpu"):
            target = name
        blocking = not (kwargs.get("non_blocking") or (flags[:1] == [True]))
        more = {"memory_format": kwargs["memory_format"]} if kwargs.get("memory_format") else {}
        source = "cuda" if self.tag(x) == "cuda" else "cpu"
        to = source if target is None else _device(target).type
        if to not in ("cpu", "cuda"):
            return func(*args, **kwargs)
        plain = torch._C.TensorBase.to
        dtype = dtype or x.dtype
        if to == source:
            copy = bool(kwargs.get("copy")) or (len(flags) > 1 and flags[1])
            return self._call(to, plain, (x, dtype), {"copy": copy, **more})
        if blocking or to == "cpu":
            self._wait(f"copy {source} to {to}")
        made = self._call(to, plain, (x, dtype), {"copy": True, **more})
        return self.put(made, to)

    def _about(self, func: Any) -> tuple[str, bool, bool, bool]:
        """Name, whether a view, whether element-wise, whether CUDA has it."""
        if func not in self._known:
            schema = func._schema
            view = any(r.alias_info is not None and not r.alias_info.is_write for r in schema.returns)
            full = schema.name + (f".{schema.overload_name}" if schema.overload_name else "")
            try:
                there = torch._C._dispatch_has_computed_kernel_for_dispatch_key(full, "CUDA")
            except RuntimeError:
                there = True
            self._known[func] = (schema.name, view, torch.Tag.pointwise in func.tags, there)
        return self._known[func]

    def _operation(self, func: Any, args: Any, kwargs: Any) -> Any:
        name, view, pointwise, there = self._about(func)
        tensors = [t for t in tree_flatten((args, kwargs))[0] if isinstance(t, torch.Tensor)]
        tags = [self.tag(t) for t in tensors]
        on = "cuda" if "cuda" in tags else "any" if "any" in tags else "cpu" if tags else self._ambient
        if "cuda" in tags:
            self._check(func, name, pointwise, there, args, kwargs, tensors, tags)
        if "cuda" in tags or (not tags and on == "cuda"):
            self._count(name, view, args, kwargs)
        if kwargs.get("pin_memory"):
            kwargs = {**kwargs, "pin_memory": False}
        made = func(*args, **kwargs)
        if on != "cpu" and name not in COPIES and not name.endswith("_"):
            for each in tree_flatten(made)[0]:
                if not isinstance(each, torch.Tensor) or any(each is t for t in tensors) or (view and "cpu" in tags):
                    continue
                if (storage := self._key(each)) is not None and storage._cdata not in self._tags:
                    self.put(each, on)
        return made

    def _check(self, func, name, pointwise, there, args, kwargs, tensors, tags) -> None:
        if not there:
            raise Fault(f"Could not run '{name}' with arguments from the 'CUDA' backend")
        if name in NO_INTEGERS or name.startswith("aten::linalg_"):
            for t, tag in zip(tensors, tags, strict=True):
                if tag == "cuda" and not (t.dtype.is_floating_point or t.dtype.is_complex):
                    raise Fault(f'"{name[6:]}_cuda" not implemented for {str(t.dtype)[6:]!r}')
        driver = next((a for a in (*args, *kwargs.values()) if isinstance(a, str)), None)
        driver = driver if name == "aten::linalg_lstsq" else None
        if driver not in (None, "gels"):
            raise Fault("torch.linalg.lstsq: parameter `driver` other than `gels` is not supported on CUDA")
        if "cpu" not in tags or name in COPIES:
            if name in COPIES and "cpu" in tags and len(tags) > 1 and name != "aten::set_":
                self._wait("copy_ between devices")
            return
        host = [t for t, tag in zip(tensors, tags, strict=True) if tag == "cpu"]
        if name in INDEXING:
            if self.tag(args[0]) != "cuda":
                raise Fault("indices should be either on cpu or on the same device as the indexed tensor (cpu)")
            if any(i is not None and self.tag(i) == "cpu" for i in args[1]):
                self._wait("CPU index of a CUDA tensor")
            if len(args) > 2 and isinstance(args[2], torch.Tensor) and self.tag(args[2]) == "cpu" and args[2].ndim:
                raise Fault(
                    "Expected all tensors to be on the same device, but found at least two devices, cuda:0 and "
                    f"cpu! (values of {name})"
                )
            return
        lenient = pointwise or name in SCALARS or name.startswith("aten::_foreach_")
        bad = [t for t in host if t.ndim > 0 or not lenient]
        if name == "aten::where" and self.tag(args[0]) == "cpu" and args[0].ndim == 0:
            bad = [args[0]]
        if bad:
            shapes = ", ".join(f"{self.tag(t)}{list(t.shape)}" for t in tensors[:6])
            raise Fault(
                f"Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu! "
                f"({func}: {shapes})"
            )

    def _count(self, name: str, view: bool, args: Any, kwargs: Any) -> None:
        if not view and name not in FREE:
            self.counts.launches[name] += 1
        if name in WAITS:
            self._wait(name[6:])
        elif name in INDEXING:
            for i in args[1]:
                if i is not None and i.dtype in (torch.bool, torch.uint8) and self.tag(i) == "cuda":
                    self._wait("boolean index")
        elif name == "aten::repeat_interleave" and kwargs.get("output_size") is None:
            self._wait("repeat_interleave")
