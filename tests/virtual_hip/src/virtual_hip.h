// What the sources of the virtual HIP device share, and what a test may call in it.
//
// The functions of HIP itself are those of the public header hip/hip_runtime_api.h; only what MIGraphX and a test of
// MIGraphX need is there. Nothing computes: a launch is handed to the observer, which may compute it in place, because
// device memory is ordinary memory of the process.
#pragma once

#include <hip/hip_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <string>

#define VIRTUAL_HIP_API extern "C" __attribute__((visibility("default")))

// One launch. A kernel of the host's own executable (hipLaunchKernel) has neither code object nor known arguments.
struct virtual_hip_launch {
  const char* symbol;
  const void* code_object;
  size_t code_object_bytes;
  const void* arguments;  // the kernel argument buffer
  size_t argument_bytes;
  uint32_t global[3];  // work-items
  uint32_t local[3];   // work-items of a workgroup
  uint32_t dynamic_lds;
};

// Who is told what happens. `launch` answers with the hipError_t that the launching function returns.
struct virtual_hip_observer {
  int (*launch)(const virtual_hip_launch*);
  void (*library_call)(const char* library, const char* function);
  void (*fault)(const char* text);
};

enum virtual_hip_kind { VIRTUAL_HIP_NONE, VIRTUAL_HIP_DEVICE, VIRTUAL_HIP_PINNED, VIRTUAL_HIP_REGISTERED, VIRTUAL_HIP_FREED };

struct virtual_hip_range {
  uintptr_t base;
  size_t bytes;
  int kind;  // virtual_hip_kind
};

// Null takes the observer away; faults are then printed on stderr.
VIRTUAL_HIP_API void virtual_hip_observe(const virtual_hip_observer* observer);
// The devices: gfx names with commas between them. False, and no change, where one is unknown.
VIRTUAL_HIP_API bool virtual_hip_set_devices(const char* gfx_names);
// Seed of the bytes that fresh device memory starts with.
VIRTUAL_HIP_API void virtual_hip_set_seed(uint64_t seed);
// The allocation that a pointer lies in.
VIRTUAL_HIP_API virtual_hip_range virtual_hip_find(const void* pointer);
// Live memory of the device and pinned memory, oldest first; returns how many there are and writes at most `capacity`.
VIRTUAL_HIP_API size_t virtual_hip_live(virtual_hip_range* ranges, size_t capacity);
// How many streams, events and modules are alive.
VIRTUAL_HIP_API size_t virtual_hip_live_objects();
// Looks for bytes written behind the end of a live allocation; each is a fault. Returns how many were found.
VIRTUAL_HIP_API size_t virtual_hip_check_guards();
// Used by the stand-ins for the libraries and by the stand-in for MIGraphX's own copying kernel.
VIRTUAL_HIP_API void virtual_hip_library_call(const char* library, const char* function);
VIRTUAL_HIP_API void virtual_hip_fault(const char* text);

namespace virtual_hip {

std::recursive_mutex& lock();
hipError_t failed(hipError_t error, const std::string& why);  // a fault, and the thread's last error
hipError_t error(hipError_t error);                           // the thread's last error, where it is one
int launch(const virtual_hip_launch& launch);
std::string text(const void* pointer);

// The gfx that code objects are loaded for: number, EF_AMDGPU_MACH, and whether it has the sramecc and xnack modes.
struct Processor {
  const char* gfx;
  const char* target_id;
  const char* name;
  unsigned machine;
  bool modes;
  int major, minor;
  int wavefront;
  int compute_units;
  size_t lds;
  size_t memory;
  int clock_khz;
};
const Processor& current_processor();

}  // namespace virtual_hip
