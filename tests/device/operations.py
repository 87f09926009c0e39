"""What a CUDA build does with operations of ATen, by their names."""


def _aten(words: str) -> set[str]:
    return {f"aten::{word}" for word in words.split()}


COPIES = _aten("copy_ copy _foreach_copy_ _foreach_copy _copy_from set_")

INDEXING = _aten("index index_put index_put_ _index_put_impl_ _unsafe_index _unsafe_index_put index_put_impl")

SCALARS = _aten("fill_ fill masked_fill masked_fill_")
"""Beside element-wise operations: they take a CPU tensor of no dimension with a CUDA tensor."""

NO_INTEGERS = _aten(
    "mm addmm addmm_ bmm baddbmm baddbmm_ mv addmv addmv_ dot vdot addbmm convolution convolution_overrideable "
    "grid_sampler_2d grid_sampler_3d upsample_bilinear2d upsample_bicubic2d upsample_linear1d upsample_trilinear3d "
    "_upsample_bilinear2d_aa _upsample_bicubic2d_aa avg_pool2d avg_pool3d _adaptive_avg_pool2d _cdist_forward "
    "_softmax _log_softmax"
)
"""Not implemented for integers and bools on CUDA, though on a CPU."""

WAITS = _aten(
    "_local_scalar_dense nonzero masked_select _unique2 unique_dim unique_consecutive bincount equal histc "
    "_linalg_check_errors _linalg_eigh _linalg_svd linalg_eig linalg_lstsq"
)

FREE = _aten(
    "detach alias lift_fresh lift_fresh_copy empty empty_strided empty_like new_empty new_empty_strided _unsafe_view "
    "_reshape_alias resize_ set_ _local_scalar_dense sym_size sym_stride sym_numel is_same_size _nested_tensor_size"
)
"""No kernel."""

ASKED = (
    "untyped_storage",
    "size",
    "dim",
    "numel",
    "stride",
    "__len__",
    "requires_grad_",
    "is_floating_point",
    "_parse_to",
)
"""Of a tensor, whatever its device."""
