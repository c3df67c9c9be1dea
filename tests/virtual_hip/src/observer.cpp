// Who is told what happens on the virtual device.
#include <cstdio>

#include "virtual_hip.h"

namespace virtual_hip {
namespace {

virtual_hip_observer current{};
thread_local hipError_t last_error = hipSuccess;

}  // namespace

std::recursive_mutex& lock() {
  static std::recursive_mutex mutex;
  return mutex;
}

hipError_t error(hipError_t error) {
  if (error != hipSuccess) last_error = error;
  return error;
}

hipError_t failed(hipError_t code, const std::string& why) {
  virtual_hip_fault(why.c_str());
  return error(code);
}

std::string text(const void* pointer) {
  char buffer[32];
  std::snprintf(buffer, sizeof buffer, "%p", pointer);
  return buffer;
}

int launch(const virtual_hip_launch& launch) {
  return current.launch != nullptr ? current.launch(&launch) : hipSuccess;
}

}  // namespace virtual_hip

using namespace virtual_hip;

VIRTUAL_HIP_API void virtual_hip_observe(const virtual_hip_observer* observer) {
  current = observer != nullptr ? *observer : virtual_hip_observer{};
}

VIRTUAL_HIP_API void virtual_hip_library_call(const char* library, const char* function) {
  if (current.library_call != nullptr) current.library_call(library, function);
}

VIRTUAL_HIP_API void virtual_hip_fault(const char* text) {
  if (current.fault != nullptr)
    current.fault(text);
  else
    std::fprintf(stderr, "virtual HIP device: %s\n", text);
}

VIRTUAL_HIP_API hipError_t hipGetLastError() {
  const hipError_t error = last_error;
  last_error = hipSuccess;
  return error;
}

VIRTUAL_HIP_API hipError_t hipPeekAtLastError() { return last_error; }

VIRTUAL_HIP_API const char* hipGetErrorName(hipError_t error) {
  switch (error) {
    case hipSuccess: return "hipSuccess";
    case hipErrorInvalidValue: return "hipErrorInvalidValue";
    case hipErrorOutOfMemory: return "hipErrorOutOfMemory";
    case hipErrorInvalidDevice: return "hipErrorInvalidDevice";
    case hipErrorInvalidImage: return "hipErrorInvalidImage";
    case hipErrorNoBinaryForGpu: return "hipErrorNoBinaryForGpu";
    case hipErrorNotFound: return "hipErrorNotFound";
    case hipErrorInvalidHandle: return "hipErrorInvalidHandle";
    case hipErrorInvalidConfiguration: return "hipErrorInvalidConfiguration";
    case hipErrorLaunchFailure: return "hipErrorLaunchFailure";
    case hipErrorNotSupported: return "hipErrorNotSupported";
    case hipErrorHostMemoryNotRegistered: return "hipErrorHostMemoryNotRegistered";
    default: return "hipErrorUnknown";
  }
}

VIRTUAL_HIP_API const char* hipGetErrorString(hipError_t error) { return hipGetErrorName(error); }
