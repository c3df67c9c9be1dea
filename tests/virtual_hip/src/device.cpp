// Devices, streams and events. Work is done when it is given: a stream is always idle.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <set>
#include <vector>

#include "virtual_hip.h"

struct ihipStream_t {};
struct ihipEvent_t {
  std::chrono::steady_clock::time_point recorded;
};

namespace virtual_hip {
namespace {

constexpr size_t kGiB = size_t{1} << 30;

// EF_AMDGPU_MACH and the modes: LLVM's AMDGPUUsage. The rest: AMD's tables of accelerators and GPUs; HIP counts the
// workgroup processors of RDNA, each of two compute units, as its multiprocessors.
constexpr Processor kProcessors[] = {
    {"gfx90a", "gfx90a:sramecc+:xnack-", "AMD Instinct MI210", 0x3f, true, 9, 0, 64, 104, 65536, 64 * kGiB, 1700000},
    {"gfx942", "gfx942:sramecc+:xnack-", "AMD Instinct MI300X", 0x4c, true, 9, 4, 64, 304, 65536, 192 * kGiB, 2100000},
    {"gfx950", "gfx950:sramecc+:xnack-", "AMD Instinct MI355X", 0x4f, true, 9, 5, 64, 256, 163840, 288 * kGiB, 2400000},
    {"gfx1100", "gfx1100", "Radeon RX 7900 XTX", 0x41, false, 11, 0, 32, 48, 65536, 24 * kGiB, 2500000},
    {"gfx1201", "gfx1201", "Radeon RX 9070 XT", 0x4e, false, 12, 0, 32, 32, 65536, 16 * kGiB, 2970000},
};

std::vector<const Processor*> parse(const std::string& names) {
  std::vector<const Processor*> found;
  for (size_t start = 0; start <= names.size();) {
    const size_t end = std::min(names.find(',', start), names.size());
    const std::string name = names.substr(start, end - start);
    const Processor* match = nullptr;
    for (const Processor& processor : kProcessors)
      if (name == processor.gfx) match = &processor;
    if (match == nullptr) return {};
    found.push_back(match);
    start = end + 1;
  }
  return found;
}

std::vector<const Processor*>& devices() {
  static std::vector<const Processor*> devices = [] {
    const char* names = std::getenv("VIRTUAL_HIP_GFX");
    auto parsed = parse(names != nullptr && *names != '\0' ? names : "gfx942");
    if (parsed.empty()) {
      std::fprintf(stderr, "virtual HIP device: VIRTUAL_HIP_GFX=%s is not a list of:", names);
      for (const Processor& processor : kProcessors) std::fprintf(stderr, " %s", processor.gfx);
      std::fprintf(stderr, "\n");
    }
    return parsed;
  }();
  return devices;
}

thread_local int current_device = 0;

std::set<void*>& objects() {
  static auto* objects = new std::set<void*>;
  return *objects;
}

template <class T>
hipError_t create(T** object) {
  if (object == nullptr) return error(hipErrorInvalidValue);
  const std::lock_guard<std::recursive_mutex> locked(lock());
  *object = new T{};
  objects().insert(*object);
  return hipSuccess;
}

template <class T>
hipError_t destroy(T* object, const char* what) {
  const std::lock_guard<std::recursive_mutex> locked(lock());
  if (objects().erase(object) == 0)
    return failed(hipErrorInvalidHandle, std::string("destroyed twice, or never created: ") + what + " " + text(object));
  delete object;
  return hipSuccess;
}

hipError_t check(void* object, const char* what) {
  const std::lock_guard<std::recursive_mutex> locked(lock());
  if (object == nullptr || objects().count(object) != 0) return hipSuccess;
  return failed(hipErrorInvalidHandle, std::string("used after its end: ") + what + " " + text(object));
}

}  // namespace

const Processor& current_processor() {
  const auto index = static_cast<size_t>(current_device);
  return *devices().at(index < devices().size() ? index : 0);
}

size_t live_streams_and_events() { return objects().size(); }

}  // namespace virtual_hip

using namespace virtual_hip;

VIRTUAL_HIP_API bool virtual_hip_set_devices(const char* gfx_names) {
  auto parsed = parse(gfx_names);
  if (parsed.empty()) return false;
  devices() = parsed;
  return true;
}

VIRTUAL_HIP_API hipError_t hipInit(unsigned int) { return error(devices().empty() ? hipErrorNoDevice : hipSuccess); }

VIRTUAL_HIP_API hipError_t hipGetDeviceCount(int* count) {
  *count = static_cast<int>(devices().size());
  return error(devices().empty() ? hipErrorNoDevice : hipSuccess);
}

VIRTUAL_HIP_API hipError_t hipGetDevice(int* device) {
  if (devices().empty()) return error(hipErrorNoDevice);
  *device = current_device;
  return hipSuccess;
}

VIRTUAL_HIP_API hipError_t hipSetDevice(int device) {
  if (device < 0 || static_cast<size_t>(device) >= devices().size()) return error(hipErrorInvalidDevice);
  current_device = device;
  return hipSuccess;
}

VIRTUAL_HIP_API hipError_t hipDeviceSynchronize() { return hipSuccess; }

VIRTUAL_HIP_API hipError_t hipRuntimeGetVersion(int* version) {
  *version = HIP_VERSION;
  return hipSuccess;
}

VIRTUAL_HIP_API hipError_t hipGetDevicePropertiesR0600(hipDeviceProp_t* properties, int device) {
  if (properties == nullptr || device < 0 || static_cast<size_t>(device) >= devices().size())
    return error(hipErrorInvalidDevice);
  const Processor& processor = *devices()[static_cast<size_t>(device)];
  *properties = {};
  std::strncpy(properties->name, processor.name, sizeof properties->name - 1);
  std::strncpy(properties->gcnArchName, processor.target_id, sizeof properties->gcnArchName - 1);
  properties->major = processor.major;
  properties->minor = processor.minor;
  properties->totalGlobalMem = processor.memory;
  properties->totalConstMem = processor.memory;
  properties->sharedMemPerBlock = processor.lds;
  properties->sharedMemPerMultiprocessor = processor.lds;
  properties->maxSharedMemoryPerMultiProcessor = processor.lds;
  properties->regsPerBlock = 65536;
  properties->regsPerMultiprocessor = 65536;
  properties->warpSize = processor.wavefront;
  properties->maxThreadsPerBlock = 1024;
  properties->maxThreadsPerMultiProcessor = 2048;
  for (int& dimension : properties->maxThreadsDim) dimension = 1024;
  properties->maxGridSize[0] = 2147483647;
  properties->maxGridSize[1] = properties->maxGridSize[2] = 65536;
  properties->clockRate = processor.clock_khz;
  properties->multiProcessorCount = processor.compute_units;
  properties->l2CacheSize = 4 << 20;
  properties->memoryBusWidth = 4096;
  properties->concurrentKernels = 1;
  properties->canMapHostMemory = 1;
  properties->hostRegisterSupported = 1;
  properties->pciBusID = device + 1;
  return hipSuccess;
}

VIRTUAL_HIP_API hipError_t hipStreamCreateWithFlags(hipStream_t* stream, unsigned int) { return create(stream); }
VIRTUAL_HIP_API hipError_t hipStreamCreate(hipStream_t* stream) { return create(stream); }
VIRTUAL_HIP_API hipError_t hipStreamDestroy(hipStream_t stream) { return destroy(stream, "stream"); }
VIRTUAL_HIP_API hipError_t hipStreamSynchronize(hipStream_t stream) { return check(stream, "stream"); }

VIRTUAL_HIP_API hipError_t hipStreamWaitEvent(hipStream_t stream, hipEvent_t event, unsigned int) {
  const hipError_t error = check(stream, "stream");
  return error != hipSuccess ? error : check(event, "event");
}

VIRTUAL_HIP_API hipError_t hipEventCreate(hipEvent_t* event) { return create(event); }
VIRTUAL_HIP_API hipError_t hipEventCreateWithFlags(hipEvent_t* event, unsigned int) { return create(event); }
VIRTUAL_HIP_API hipError_t hipEventDestroy(hipEvent_t event) { return destroy(event, "event"); }
VIRTUAL_HIP_API hipError_t hipEventSynchronize(hipEvent_t event) { return check(event, "event"); }

VIRTUAL_HIP_API hipError_t hipEventRecord(hipEvent_t event, hipStream_t stream) {
  hipError_t error = check(event, "event");
  if (error == hipSuccess) error = check(stream, "stream");
  if (error == hipSuccess && event != nullptr) event->recorded = std::chrono::steady_clock::now();
  return error;
}

VIRTUAL_HIP_API hipError_t hipEventElapsedTime(float* milliseconds, hipEvent_t start, hipEvent_t stop) {
  hipError_t error = check(start, "event");
  if (error == hipSuccess) error = check(stop, "event");
  if (error == hipSuccess)
    *milliseconds = std::chrono::duration<float, std::milli>(stop->recorded - start->recorded).count();
  return error;
}
