// Code objects and launches.
#include <elf.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <memory>
#include <set>
#include <vector>

#include "virtual_hip.h"

struct ihipModule_t;

struct ihipModuleSymbol_t {
  ihipModule_t* module;
  std::string name;
};

struct ihipModule_t {
  std::vector<unsigned char> code_object;
  std::map<std::string, std::unique_ptr<ihipModuleSymbol_t>> functions;
};

namespace virtual_hip {

size_t live_streams_and_events();

namespace {

std::set<hipModule_t>& modules() {
  static auto* modules = new std::set<hipModule_t>;
  return *modules;
}

std::set<hipFunction_t>& functions() {
  static auto* functions = new std::set<hipFunction_t>;
  return *functions;
}

// Names of the kernels in the host's own executables, by the address of their stubs.
std::map<const void*, std::string>& registered() {
  static auto* kernels = new std::map<const void*, std::string>;
  return *kernels;
}

// An ELF is handed over without its size; the section headers are what its end is known by, or its last section.
size_t elf_size(const Elf64_Ehdr& header, const unsigned char* image) {
  size_t end = header.e_shoff + size_t{header.e_shnum} * header.e_shentsize;
  for (unsigned i = 0; i < header.e_shnum; ++i) {
    Elf64_Shdr section;
    std::memcpy(&section, image + header.e_shoff + size_t{i} * header.e_shentsize, sizeof section);
    if (section.sh_type != SHT_NOBITS) end = std::max<size_t>(end, section.sh_offset + section.sh_size);
  }
  return end;
}

// The mode of a feature in a code object's flags (LLVM's AMDGPUUsage, EF_AMDGPU_FEATURE_*_V4): 2 is off, 3 is on,
// others go with any device. The virtual devices that have the two modes are sramecc+ and xnack-.
bool modes_fit(unsigned flags) {
  const unsigned xnack = (flags >> 8) & 3u;
  const unsigned sramecc = (flags >> 10) & 3u;
  return xnack != 3u && sramecc != 2u;
}

bool has_kernel(const std::vector<unsigned char>& elf, const std::string& name) {
  Elf64_Ehdr header;
  std::memcpy(&header, elf.data(), sizeof header);
  const auto section = [&](unsigned index) {
    Elf64_Shdr result;
    std::memcpy(&result, elf.data() + header.e_shoff + size_t{index} * header.e_shentsize, sizeof result);
    return result;
  };
  for (unsigned i = 0; i < header.e_shnum; ++i) {
    const Elf64_Shdr symbols = section(i);
    if (symbols.sh_type != SHT_DYNSYM) continue;
    const Elf64_Shdr names = section(symbols.sh_link);
    for (size_t at = symbols.sh_offset; at < symbols.sh_offset + symbols.sh_size; at += sizeof(Elf64_Sym)) {
      Elf64_Sym symbol;
      std::memcpy(&symbol, elf.data() + at, sizeof symbol);
      if (name == reinterpret_cast<const char*>(elf.data() + names.sh_offset + symbol.st_name)) return true;
    }
  }
  return false;
}

hipError_t launch_function(hipFunction_t function, dim3 global, dim3 local, size_t lds, void** parameters, void** extra) {
  virtual_hip_launch launched{};
  {
    const std::lock_guard<std::recursive_mutex> locked(lock());
    if (functions().count(function) == 0)
      return failed(hipErrorInvalidHandle, "launch of a kernel whose module is not loaded");
    launched.symbol = function->name.c_str();
    launched.code_object = function->module->code_object.data();
    launched.code_object_bytes = function->module->code_object.size();
  }
  if (parameters != nullptr || extra == nullptr)
    return failed(hipErrorNotSupported, std::string("launch of ") + launched.symbol + " without an argument buffer");
  for (void** entry = extra; *entry != HIP_LAUNCH_PARAM_END; entry += 2) {
    if (*entry == HIP_LAUNCH_PARAM_BUFFER_POINTER) launched.arguments = entry[1];
    if (*entry == HIP_LAUNCH_PARAM_BUFFER_SIZE) launched.argument_bytes = *static_cast<size_t*>(entry[1]);
  }
  const size_t items = size_t{local.x} * local.y * local.z;
  if (items == 0 || items > 1024 || global.x == 0 || global.y == 0 || global.z == 0)
    return failed(hipErrorInvalidConfiguration,
                  std::string("launch of ") + launched.symbol + " with " + std::to_string(items) + " work-items a workgroup");
  const uint32_t sizes[2][3] = {{global.x, global.y, global.z}, {local.x, local.y, local.z}};
  std::copy(sizes[0], sizes[0] + 3, launched.global);
  std::copy(sizes[1], sizes[1] + 3, launched.local);
  launched.dynamic_lds = static_cast<uint32_t>(lds);
  return error(static_cast<hipError_t>(launch(launched)));
}

}  // namespace
}  // namespace virtual_hip

using namespace virtual_hip;

VIRTUAL_HIP_API size_t virtual_hip_live_objects() {
  const std::lock_guard<std::recursive_mutex> locked(lock());
  return live_streams_and_events() + modules().size();
}

VIRTUAL_HIP_API hipError_t hipModuleLoadData(hipModule_t* module, const void* image) {
  if (module == nullptr || image == nullptr) return error(hipErrorInvalidValue);
  *module = nullptr;  // MIGraphX unloads what it finds there, whether the load failed or not
  const auto* bytes = static_cast<const unsigned char*>(image);
  Elf64_Ehdr header;
  if (std::memcmp(bytes, ELFMAG, SELFMAG) != 0) return failed(hipErrorInvalidImage, "hipModuleLoadData of no ELF");
  std::memcpy(&header, bytes, sizeof header);
  const Processor& processor = current_processor();
  if (header.e_machine != EM_AMDGPU || (header.e_flags & 0xffu) != processor.machine ||
      (processor.modes && !modes_fit(header.e_flags)))
    return failed(hipErrorNoBinaryForGpu, std::string("a code object of another processor loaded on ") + processor.target_id);
  auto loaded = std::make_unique<ihipModule_t>();
  loaded->code_object.assign(bytes, bytes + elf_size(header, bytes));
  const std::lock_guard<std::recursive_mutex> locked(lock());
  *module = loaded.release();
  modules().insert(*module);
  return hipSuccess;
}

VIRTUAL_HIP_API hipError_t hipModuleUnload(hipModule_t module) {
  if (module == nullptr) return error(hipErrorInvalidHandle);
  const std::lock_guard<std::recursive_mutex> locked(lock());
  if (modules().erase(module) == 0) return failed(hipErrorInvalidHandle, "hipModuleUnload of no module");
  for (const auto& [name, function] : module->functions) functions().erase(function.get());
  delete module;
  return hipSuccess;
}

VIRTUAL_HIP_API hipError_t hipModuleGetFunction(hipFunction_t* function, hipModule_t module, const char* name) {
  const std::lock_guard<std::recursive_mutex> locked(lock());
  if (function == nullptr || name == nullptr || modules().count(module) == 0) return error(hipErrorInvalidValue);
  if (!has_kernel(module->code_object, std::string(name) + ".kd"))
    return failed(hipErrorNotFound, std::string("a code object has no kernel ") + name);
  auto& entry = module->functions[name];
  if (entry == nullptr) entry.reset(new ihipModuleSymbol_t{module, name});
  functions().insert(entry.get());
  *function = entry.get();
  return hipSuccess;
}

// Exported under its C++ name, as HIP does: Debian's MIGraphX is compiled without hip_ext.h's extern "C".
__attribute__((visibility("default"))) hipError_t hipExtModuleLaunchKernel(
    hipFunction_t function, uint32_t global_x, uint32_t global_y, uint32_t global_z, uint32_t local_x, uint32_t local_y,
    uint32_t local_z, size_t lds, hipStream_t, void** parameters, void** extra, hipEvent_t start, hipEvent_t stop, uint32_t) {
  if (start != nullptr) hipEventRecord(start, nullptr);
  const hipError_t result = launch_function(function, dim3(global_x, global_y, global_z),
                                            dim3(local_x, local_y, local_z), lds, parameters, extra);
  if (stop != nullptr) hipEventRecord(stop, nullptr);
  return result;
}

VIRTUAL_HIP_API hipError_t hipModuleLaunchKernel(hipFunction_t function, unsigned int grid_x, unsigned int grid_y,
                                                 unsigned int grid_z, unsigned int block_x, unsigned int block_y,
                                                 unsigned int block_z, unsigned int lds, hipStream_t, void** parameters,
                                                 void** extra) {
  return launch_function(function, dim3(grid_x * block_x, grid_y * block_y, grid_z * block_z),
                         dim3(block_x, block_y, block_z), lds, parameters, extra);
}

// The kernels inside libmigraphx_device: its own compiler's start-up code registers them, and their stubs launch them.

namespace {
struct Configuration {
  dim3 grid, block;
  size_t lds;
  hipStream_t stream;
};
thread_local std::vector<Configuration> configurations;
}  // namespace

VIRTUAL_HIP_API void** __hipRegisterFatBinary(const void* binary) { return new void*(const_cast<void*>(binary)); }

VIRTUAL_HIP_API void __hipUnregisterFatBinary(void** binary) { delete binary; }

VIRTUAL_HIP_API void __hipRegisterFunction(void**, const void* host, char*, const char* name, unsigned int, void*, void*,
                                           dim3*, dim3*, int*) {
  const std::lock_guard<std::recursive_mutex> locked(lock());
  registered()[host] = name;
}

VIRTUAL_HIP_API hipError_t __hipPushCallConfiguration(dim3 grid, dim3 block, size_t lds, hipStream_t stream) {
  configurations.push_back({grid, block, lds, stream});
  return hipSuccess;
}

VIRTUAL_HIP_API hipError_t __hipPopCallConfiguration(dim3* grid, dim3* block, size_t* lds, hipStream_t* stream) {
  if (configurations.empty()) return error(hipErrorInvalidConfiguration);
  const Configuration last = configurations.back();
  configurations.pop_back();
  *grid = last.grid;
  *block = last.block;
  *lds = last.lds;
  *stream = last.stream;
  return hipSuccess;
}

VIRTUAL_HIP_API hipError_t hipLaunchKernel(const void* function, dim3 grid, dim3 block, void**, size_t lds, hipStream_t) {
  virtual_hip_launch launched{};
  {
    const std::lock_guard<std::recursive_mutex> locked(lock());
    const auto found = registered().find(function);
    launched.symbol = found != registered().end() ? found->second.c_str() : "?";
  }
  const uint32_t sizes[2][3] = {{grid.x * block.x, grid.y * block.y, grid.z * block.z}, {block.x, block.y, block.z}};
  std::copy(sizes[0], sizes[0] + 3, launched.global);
  std::copy(sizes[1], sizes[1] + 3, launched.local);
  launched.dynamic_lds = static_cast<uint32_t>(lds);
  return error(static_cast<hipError_t>(launch(launched)));
}
