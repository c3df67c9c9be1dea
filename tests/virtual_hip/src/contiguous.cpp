// MIGraphX copies between host and device, and between buffers, with a kernel inside libmigraphx_device (`contiguous`,
// src/targets/gpu/hip.cpp, gpu_copy). Those kernels take C++ objects whose layout only their compiler knows, so the
// function that launches them is replaced instead: this library comes before libmigraphx_device in the loader's search
// for libmigraphx_gpu's symbols, and finds the few functions of libmigraphx below when it is first called.
#include <cstring>
#include <string>
#include <vector>

#include "virtual_hip.h"

namespace migraphx {
inline namespace MIGRAPHX_NAMESPACE {

struct shape {
  const std::vector<std::size_t>& lens() const;
  const std::vector<std::size_t>& strides() const;
  std::size_t type_size() const;
};

struct argument {
  char* data() const;
  const shape& get_shape() const;
};

namespace gpu {
namespace device {

namespace {

std::size_t space(const shape& s) {
  std::size_t last = 0;
  for (std::size_t axis = 0; axis < s.lens().size(); ++axis) {
    if (s.lens()[axis] == 0) return 0;
    last += (s.lens()[axis] - 1) * s.strides()[axis];
  }
  return last + 1;
}

bool usable(const argument& value, const char* what) {
  const virtual_hip_range range = virtual_hip_find(value.data());
  const auto begin = reinterpret_cast<std::uintptr_t>(value.data());
  const std::size_t bytes = space(value.get_shape()) * value.get_shape().type_size();
  const bool live = range.kind != VIRTUAL_HIP_NONE && range.kind != VIRTUAL_HIP_FREED;
  if (bytes == 0 || (live && begin + bytes <= range.base + range.bytes)) return true;
  const std::string why = std::string("bad copy by MIGraphX: the ") + what + " of " + std::to_string(bytes) +
                          " bytes is " + (live ? "too small" : "not memory of the device, or free");
  virtual_hip_fault(why.c_str());
  return false;
}

}  // namespace

__attribute__((visibility("default"))) void contiguous(hipStream_t, const argument& result, const argument& source) {
  const shape& to = result.get_shape();
  const shape& from = source.get_shape();
  if (to.lens().empty()) {
    virtual_hip_fault("a copy of a tuple, which the virtual device can't do");
    return;
  }
  if (!usable(result, "target") || !usable(source, "source") || space(to) == 0) return;
  const std::size_t size = to.type_size();
  std::vector<std::size_t> index(to.lens().size(), 0);
  std::size_t target = 0;
  std::size_t origin = 0;
  for (;;) {
    std::memcpy(result.data() + target * size, source.data() + origin * size, size);
    std::size_t axis = index.size();
    while (axis-- > 0) {
      target += to.strides()[axis];
      origin += from.strides()[axis];
      if (++index[axis] < to.lens()[axis]) break;
      target -= to.strides()[axis] * index[axis];
      origin -= from.strides()[axis] * index[axis];
      index[axis] = 0;
      if (axis == 0) return;
    }
  }
}

}  // namespace device
}  // namespace gpu
}  // namespace MIGRAPHX_NAMESPACE
}  // namespace migraphx
