// Device memory: pages of the process behind which a guard lies, and which are never given out twice.
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <vector>

#include "virtual_hip.h"

namespace virtual_hip {
namespace {

constexpr unsigned char kGuard = 0xCD;

struct Allocation {
  size_t bytes = 0;
  size_t mapped = 0;  // without the guard page
  int kind = VIRTUAL_HIP_NONE;
  uint64_t number = 0;
  int registrations = 0;
};

std::map<uintptr_t, Allocation>& live() {
  static auto* allocations = new std::map<uintptr_t, Allocation>;
  return *allocations;
}

std::map<uintptr_t, Allocation>& freed() {
  static auto* allocations = new std::map<uintptr_t, Allocation>;
  return *allocations;
}

uint64_t seed = 1;
uint64_t allocated = 0;

uintptr_t address(const void* pointer) { return reinterpret_cast<uintptr_t>(pointer); }

size_t pages(size_t bytes) {
  const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  return (bytes + page - 1) / page * page;
}

// Random bytes that are finite numbers as f64, f32, f16, bf16 and fp8: the odd bytes hold sign and exponent, and are
// those of 1 to 2 in f16 and of 0.008 to 2 in bf16 and f32; the even ones avoid what is no number in any fp8 type.
void fill(unsigned char* data, size_t bytes, uint64_t state) {
  for (size_t at = 0; at < bytes; at += sizeof state) {
    state += 0x9e3779b97f4a7c15u;  // splitmix64
    uint64_t mixed = state;
    mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9u;
    mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111ebu;
    mixed ^= mixed >> 31;
    mixed = (mixed & 0x83bf83bf83bf83bfu) | 0x3c013c013c013c01u;
    std::memcpy(data + at, &mixed, std::min(sizeof mixed, bytes - at));
  }
}

void* allocate(size_t bytes, int kind) {
  const size_t mapped = pages(bytes);
  const size_t guard = pages(1);
  void* base = mmap(nullptr, mapped + guard, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (base == MAP_FAILED) return nullptr;
  auto* data = static_cast<unsigned char*>(base);
  mprotect(data + mapped, guard, PROT_NONE);
  const std::lock_guard<std::recursive_mutex> locked(lock());
  const uint64_t number = ++allocated;
  if (kind == VIRTUAL_HIP_DEVICE) fill(data, bytes, seed * 0x632be59bd9b4e019u + number);
  std::memset(data + bytes, kGuard, mapped - bytes);
  live()[address(base)] = Allocation{bytes, mapped, kind, number, 0};
  return base;
}

bool guard_intact(uintptr_t base, const Allocation& allocation) {
  const auto* data = reinterpret_cast<const unsigned char*>(base);
  return std::all_of(data + allocation.bytes, data + allocation.mapped, [](unsigned char byte) { return byte == kGuard; });
}

std::map<uintptr_t, Allocation>::iterator containing(std::map<uintptr_t, Allocation>& allocations, uintptr_t pointer) {
  auto next = allocations.upper_bound(pointer);
  if (next == allocations.begin()) return allocations.end();
  --next;
  return pointer < next->first + std::max<size_t>(next->second.bytes, 1) ? next : allocations.end();
}

hipError_t release(void* pointer, const char* function) {
  if (pointer == nullptr) return hipSuccess;
  const std::lock_guard<std::recursive_mutex> locked(lock());
  const auto found = live().find(address(pointer));
  if (found == live().end() || found->second.kind == VIRTUAL_HIP_REGISTERED) {
    const bool before = freed().count(address(pointer)) != 0;
    return failed(hipErrorInvalidValue, std::string(before ? "double free: " : "free of no allocation: ") + function +
                                            " of " + text(pointer));
  }
  if (!guard_intact(found->first, found->second))
    virtual_hip_fault(("written behind the end of the " + std::to_string(found->second.bytes) + " bytes at " +
                       text(pointer)).c_str());
  madvise(pointer, found->second.mapped, MADV_DONTNEED);
  mprotect(pointer, found->second.mapped, PROT_NONE);
  freed()[found->first] = found->second;
  live().erase(found);
  return hipSuccess;
}

// Why the bytes at a pointer may not be touched by a copy; empty where they may. Memory of the host is not checked.
std::string wrong(const void* pointer, size_t bytes, bool device) {
  const virtual_hip_range range = virtual_hip_find(pointer);
  if (range.kind == VIRTUAL_HIP_FREED) return "use after free of " + text(pointer);
  if (range.kind == VIRTUAL_HIP_NONE) return device ? text(pointer) + " is not memory of the device" : "";
  if (range.kind == VIRTUAL_HIP_REGISTERED && !device) return "";
  const size_t left = range.base + range.bytes - address(pointer);
  if (bytes > left) return std::to_string(bytes) + " bytes at " + text(pointer) + ", which has " + std::to_string(left);
  return "";
}

hipError_t copy(void* to, const void* from, size_t bytes, hipMemcpyKind kind) {
  if (bytes == 0) return hipSuccess;
  const bool to_device = kind == hipMemcpyHostToDevice || kind == hipMemcpyDeviceToDevice;
  const bool from_device = kind == hipMemcpyDeviceToHost || kind == hipMemcpyDeviceToDevice;
  const std::lock_guard<std::recursive_mutex> locked(lock());
  std::string why = wrong(to, bytes, to_device);
  if (why.empty()) why = wrong(from, bytes, from_device);
  if (!why.empty()) return failed(hipErrorInvalidValue, "bad copy: " + why);
  std::memmove(to, from, bytes);
  return hipSuccess;
}

hipError_t set(void* to, int value, size_t bytes) {
  if (bytes == 0) return hipSuccess;
  const std::lock_guard<std::recursive_mutex> locked(lock());
  const std::string why = wrong(to, bytes, true);
  if (!why.empty()) return failed(hipErrorInvalidValue, "bad fill: " + why);
  std::memset(to, value, bytes);
  return hipSuccess;
}

}  // namespace
}  // namespace virtual_hip

using namespace virtual_hip;

VIRTUAL_HIP_API void virtual_hip_set_seed(uint64_t value) { seed = value; }

VIRTUAL_HIP_API virtual_hip_range virtual_hip_find(const void* pointer) {
  const std::lock_guard<std::recursive_mutex> locked(lock());
  const auto found = containing(live(), address(pointer));
  if (found != live().end()) return {found->first, found->second.bytes, found->second.kind};
  const auto gone = containing(freed(), address(pointer));
  if (gone != freed().end()) return {gone->first, gone->second.bytes, VIRTUAL_HIP_FREED};
  return {0, 0, VIRTUAL_HIP_NONE};
}

VIRTUAL_HIP_API size_t virtual_hip_live(virtual_hip_range* ranges, size_t capacity) {
  const std::lock_guard<std::recursive_mutex> locked(lock());
  std::vector<std::pair<uintptr_t, Allocation>> sorted(live().begin(), live().end());
  std::sort(sorted.begin(), sorted.end(), [](const auto& a, const auto& b) { return a.second.number < b.second.number; });
  for (size_t i = 0; i < std::min(capacity, sorted.size()); ++i)
    ranges[i] = {sorted[i].first, sorted[i].second.bytes, sorted[i].second.kind};
  return sorted.size();
}

VIRTUAL_HIP_API size_t virtual_hip_check_guards() {
  const std::lock_guard<std::recursive_mutex> locked(lock());
  size_t count = 0;
  for (const auto& [base, allocation] : live()) {
    if (allocation.kind == VIRTUAL_HIP_REGISTERED || guard_intact(base, allocation)) continue;
    ++count;
    virtual_hip_fault(("written behind the end of the " + std::to_string(allocation.bytes) + " bytes at " +
                       text(reinterpret_cast<const void*>(base))).c_str());
  }
  return count;
}

VIRTUAL_HIP_API hipError_t hipMalloc(void** pointer, size_t bytes) {
  if (pointer == nullptr) return error(hipErrorInvalidValue);
  *pointer = bytes == 0 ? nullptr : allocate(bytes, VIRTUAL_HIP_DEVICE);
  return error(bytes != 0 && *pointer == nullptr ? hipErrorOutOfMemory : hipSuccess);
}

VIRTUAL_HIP_API hipError_t hipHostMalloc(void** pointer, size_t bytes, unsigned int) {
  if (pointer == nullptr) return error(hipErrorInvalidValue);
  *pointer = bytes == 0 ? nullptr : allocate(bytes, VIRTUAL_HIP_PINNED);
  return error(bytes != 0 && *pointer == nullptr ? hipErrorOutOfMemory : hipSuccess);
}

VIRTUAL_HIP_API hipError_t hipFree(void* pointer) { return release(pointer, "hipFree"); }

VIRTUAL_HIP_API hipError_t hipHostFree(void* pointer) { return release(pointer, "hipHostFree"); }

// Memory of the host that the device may use under the same address. It may be registered several times over.
VIRTUAL_HIP_API hipError_t hipHostRegister(void* pointer, size_t bytes, unsigned int) {
  if (pointer == nullptr || bytes == 0) return error(hipErrorInvalidValue);
  const std::lock_guard<std::recursive_mutex> locked(lock());
  Allocation& allocation = live()[address(pointer)];
  if (allocation.kind == VIRTUAL_HIP_NONE) allocation = Allocation{bytes, bytes, VIRTUAL_HIP_REGISTERED, ++allocated, 0};
  allocation.bytes = std::max(allocation.bytes, bytes);
  ++allocation.registrations;
  return hipSuccess;
}

VIRTUAL_HIP_API hipError_t hipHostUnregister(void* pointer) {
  const std::lock_guard<std::recursive_mutex> locked(lock());
  const auto found = live().find(address(pointer));
  if (found == live().end() || found->second.kind != VIRTUAL_HIP_REGISTERED)
    return failed(hipErrorHostMemoryNotRegistered, "hipHostUnregister of " + text(pointer) + ", which is not registered");
  if (--found->second.registrations == 0) live().erase(found);
  return hipSuccess;
}

VIRTUAL_HIP_API hipError_t hipHostGetDevicePointer(void** device, void* host, unsigned int) {
  if (device == nullptr) return error(hipErrorInvalidValue);
  const int kind = virtual_hip_find(host).kind;
  if (kind != VIRTUAL_HIP_PINNED && kind != VIRTUAL_HIP_REGISTERED)
    return failed(hipErrorInvalidValue, "hipHostGetDevicePointer of " + text(host) + ", which is not pinned");
  *device = host;
  return hipSuccess;
}

VIRTUAL_HIP_API hipError_t hipPointerGetAttributes(hipPointerAttribute_t* attributes, const void* pointer) {
  const virtual_hip_range range = virtual_hip_find(pointer);
  if (attributes == nullptr || range.kind == VIRTUAL_HIP_NONE || range.kind == VIRTUAL_HIP_FREED)
    return error(hipErrorInvalidValue);
  *attributes = {};
  attributes->type = range.kind == VIRTUAL_HIP_DEVICE ? hipMemoryTypeDevice : hipMemoryTypeHost;
  attributes->devicePointer = const_cast<void*>(pointer);
  attributes->hostPointer = range.kind == VIRTUAL_HIP_DEVICE ? nullptr : const_cast<void*>(pointer);
  return hipSuccess;
}

VIRTUAL_HIP_API hipError_t hipMemcpy(void* to, const void* from, size_t bytes, hipMemcpyKind kind) {
  return copy(to, from, bytes, kind);
}

VIRTUAL_HIP_API hipError_t hipMemcpyAsync(void* to, const void* from, size_t bytes, hipMemcpyKind kind, hipStream_t) {
  return copy(to, from, bytes, kind);
}

VIRTUAL_HIP_API hipError_t hipMemset(void* to, int value, size_t bytes) { return set(to, value, bytes); }

VIRTUAL_HIP_API hipError_t hipMemsetAsync(void* to, int value, size_t bytes, hipStream_t) {
  return set(to, value, bytes);
}

VIRTUAL_HIP_API hipError_t hipMemGetInfo(size_t* available, size_t* total) {
  const std::lock_guard<std::recursive_mutex> locked(lock());
  size_t used = 0;
  for (const auto& [base, allocation] : live())
    if (allocation.kind == VIRTUAL_HIP_DEVICE) used += allocation.bytes;
  const size_t memory = current_processor().memory;
  if (total != nullptr) *total = memory;
  if (available != nullptr) *available = memory > used ? memory - used : 0;
  return hipSuccess;
}
