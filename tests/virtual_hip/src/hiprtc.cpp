// hiprtc with a memory: what Debian's real one compiled once, for the same sources and options, is read from a folder.
//
// MIGraphX compiles dozens of kernels a model at about a second each, and a test compiles the same model every time. The
// folder is `kernels` beside the folder of this library, or what VIRTUAL_HIP_KERNELS names; empty, nothing is kept.
#include <dlfcn.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <hip/hiprtc.h>
#include <iterator>
#include <string>
#include <vector>

#define API extern "C" __attribute__((visibility("default")))

namespace fs = std::filesystem;

struct _hiprtcProgram {
  std::string source, name;
  std::vector<std::string> headers, includes;
  hiprtcProgram real = nullptr;
  std::string code;
};

namespace {

template <class F>
F real(const char* name, F) {
  // Under its path, for the loader knows this library by the same name.
  static void* library = dlopen(REAL_HIPRTC, RTLD_NOW | RTLD_LOCAL);
  void* function = library != nullptr ? dlsym(library, name) : nullptr;
  if (function == nullptr) {
    std::fprintf(stderr, "virtual HIP device: %s can't be used: %s\n", REAL_HIPRTC, dlerror());
    std::abort();
  }
  return reinterpret_cast<F>(function);
}
#define REAL(function) real(#function, &function)

fs::path folder() {
  if (const char* named = std::getenv("VIRTUAL_HIP_KERNELS")) return named;
  Dl_info info;
  static const char here = 0;
  if (dladdr(&here, &info) == 0) return {};
  return fs::path(info.dli_fname).parent_path().parent_path() / "kernels";
}

// FNV-1a, twice with different starts; every string counts with its length.
class Key {
 public:
  void add(const std::string& text) {
    mix(std::to_string(text.size()) + ":");
    mix(text);
  }
  std::string hex() const {
    char buffer[33];
    std::snprintf(buffer, sizeof buffer, "%016lx%016lx", first_, second_);
    return buffer;
  }

 private:
  void mix(const std::string& text) {
    for (const char c : text) {
      first_ = (first_ ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
      second_ = (second_ ^ static_cast<unsigned char>(c)) * 0x9e3779b97f4a7c15u;
    }
  }
  std::uint64_t first_ = 0xcbf29ce484222325u;
  std::uint64_t second_ = 0x84222325cbf29ce4u;
};

fs::path place(const _hiprtcProgram& program, int count, const char** options) {
  const fs::path kept = folder();
  if (kept.empty()) return {};
  Key key;
  std::error_code error;
  key.add(REAL_HIPRTC_BUILD);
  key.add(program.source);
  key.add(program.name);
  for (const std::string& header : program.headers) key.add(header);
  for (const std::string& include : program.includes) key.add(include);
  for (int i = 0; i < count; ++i) key.add(options[i]);
  fs::create_directories(kept, error);
  return kept / key.hex();
}

std::string read(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

void keep(const fs::path& path, const std::string& code) {
  // Under another name first: a reader never sees half a file.
  std::string partial = path.string() + ".XXXXXX";
  const int descriptor = mkstemp(partial.data());
  if (descriptor < 0) return;
  const bool whole = write(descriptor, code.data(), code.size()) == static_cast<ssize_t>(code.size());
  close(descriptor);
  if (!whole || std::rename(partial.c_str(), path.c_str()) != 0) unlink(partial.c_str());
}

const char** pointers(const std::vector<std::string>& strings, std::vector<const char*>& out) {
  for (const std::string& text : strings) out.push_back(text.c_str());
  return out.data();
}

}  // namespace

API hiprtcResult hiprtcCreateProgram(hiprtcProgram* program, const char* source, const char* name, int count,
                                     const char** headers, const char** includes) {
  auto* made = new _hiprtcProgram{source, name != nullptr ? name : "", {}, {}, nullptr, {}};
  made->headers.assign(headers, headers + count);
  made->includes.assign(includes, includes + count);
  *program = made;
  return HIPRTC_SUCCESS;
}

API hiprtcResult hiprtcCompileProgram(hiprtcProgram program, int count, const char** options) {
  const fs::path path = place(*program, count, options);
  if (!path.empty()) program->code = read(path);
  if (!program->code.empty()) return HIPRTC_SUCCESS;
  std::vector<const char*> headers, includes;
  hiprtcResult result = REAL(hiprtcCreateProgram)(
      &program->real, program->source.c_str(), program->name.c_str(), static_cast<int>(program->headers.size()),
      pointers(program->headers, headers), pointers(program->includes, includes));
  if (result == HIPRTC_SUCCESS) result = REAL(hiprtcCompileProgram)(program->real, count, options);
  size_t size = 0;
  if (result == HIPRTC_SUCCESS) result = REAL(hiprtcGetCodeSize)(program->real, &size);
  if (result != HIPRTC_SUCCESS) return result;
  program->code.resize(size);
  result = REAL(hiprtcGetCode)(program->real, program->code.data());
  if (result == HIPRTC_SUCCESS && !path.empty()) keep(path, program->code);
  return result;
}

API hiprtcResult hiprtcGetCodeSize(hiprtcProgram program, size_t* size) {
  *size = program->code.size();
  return HIPRTC_SUCCESS;
}

API hiprtcResult hiprtcGetCode(hiprtcProgram program, char* code) {
  std::memcpy(code, program->code.data(), program->code.size());
  return HIPRTC_SUCCESS;
}

API hiprtcResult hiprtcGetProgramLogSize(hiprtcProgram program, size_t* size) {
  if (program->real != nullptr) return REAL(hiprtcGetProgramLogSize)(program->real, size);
  *size = 0;
  return HIPRTC_SUCCESS;
}

API hiprtcResult hiprtcGetProgramLog(hiprtcProgram program, char* log) {
  return program->real != nullptr ? REAL(hiprtcGetProgramLog)(program->real, log) : HIPRTC_SUCCESS;
}

API hiprtcResult hiprtcDestroyProgram(hiprtcProgram* program) {
  hiprtcResult result = HIPRTC_SUCCESS;
  if ((*program)->real != nullptr) result = REAL(hiprtcDestroyProgram)(&(*program)->real);
  delete *program;
  *program = nullptr;
  return result;
}

API const char* hiprtcGetErrorString(hiprtcResult result) { return REAL(hiprtcGetErrorString)(result); }
