// A module in the place of ROCm's `migraphx`: its names, real pybind11 classes, and MIGraphX behind its C interface.
// As in ROCm's, a program object holds the address of the C++ program (which the C interface's handle is) and its owner.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace py = pybind11;

// Only MIGraphX makes, copies and destroys them.
struct migraphx_program
{
    migraphx_program()                        = delete;
    migraphx_program(const migraphx_program&) = delete;
};
struct migraphx_module
{
    migraphx_module()                       = delete;
    migraphx_module(const migraphx_module&) = delete;
};
struct migraphx_target
{
    migraphx_target()                       = delete;
    migraphx_target(const migraphx_target&) = delete;
};
using handle = void*;

extern "C" {
int migraphx_program_create(migraphx_program**);
int migraphx_program_destroy(migraphx_program*);
int migraphx_program_compile(migraphx_program*, migraphx_target*, handle);
int migraphx_program_equal(bool*, const migraphx_program*, const migraphx_program*);
int migraphx_program_get_main_module(migraphx_module**, migraphx_program*);
int migraphx_program_create_module(migraphx_module**, migraphx_program*, const char*);
int migraphx_program_get_parameter_shapes(handle*, migraphx_program*);
int migraphx_program_parameter_shapes_size(std::size_t*, handle);
int migraphx_program_parameter_shapes_names(const char**, handle);
int migraphx_program_parameter_shapes_get(const void**, handle, const char*);
int migraphx_program_parameter_shapes_destroy(handle);
int migraphx_program_parameters_create(handle*);
int migraphx_program_parameters_add(handle, const char*, handle);
int migraphx_program_parameters_destroy(handle);
int migraphx_program_run(handle*, migraphx_program*, handle);
int migraphx_argument_create(handle*, const void*, void*);
int migraphx_argument_destroy(handle);
int migraphx_argument_shape(const void**, const void*);
int migraphx_argument_buffer(char**, const void*);
int migraphx_arguments_size(std::size_t*, handle);
int migraphx_arguments_get(const void**, handle, std::size_t);
int migraphx_arguments_destroy(handle);
int migraphx_shape_lengths(const std::size_t**, std::size_t*, const void*);
int migraphx_target_create(migraphx_target**, const char*);
int migraphx_target_destroy(migraphx_target*);
int migraphx_compile_options_create(handle*);
int migraphx_compile_options_destroy(handle);
int migraphx_compile_options_set_offload_copy(handle, bool);
int migraphx_file_options_create(handle*);
int migraphx_file_options_destroy(handle);
int migraphx_file_options_set_file_format(handle, const char*);
int migraphx_load(migraphx_program**, const char*, handle);
int migraphx_save(migraphx_program*, const char*, handle);
int migraphx_onnx_options_create(handle*);
int migraphx_onnx_options_destroy(handle);
int migraphx_parse_onnx(migraphx_program**, const char*, handle);
int migraphx_quantize_fp16(migraphx_program*);
}

static void check(int status)
{
    if(status != 0)
        throw std::runtime_error("MIGraphX failed");
}

struct destroy
{
    void operator()(migraphx_program* p) const { migraphx_program_destroy(p); }
    void operator()(migraphx_target* t) const { migraphx_target_destroy(t); }
};
using program = std::unique_ptr<migraphx_program, destroy>;
using target  = std::unique_ptr<migraphx_target, destroy>;
using closing = std::unique_ptr<void, int (*)(handle)>;

static std::vector<std::string> names(migraphx_program& p)
{
    handle shapes = nullptr;
    check(migraphx_program_get_parameter_shapes(&shapes, &p));
    closing close(shapes, migraphx_program_parameter_shapes_destroy);
    std::size_t count = 0;
    check(migraphx_program_parameter_shapes_size(&count, shapes));
    std::vector<const char*> found(count);
    if(count == 0)
        return {}; // MIGraphX wants no null pointer
    check(migraphx_program_parameter_shapes_names(found.data(), shapes));
    return {found.begin(), found.end()};
}

static std::vector<py::array_t<float>> run(migraphx_program& p, const py::dict& values)
{
    handle shapes = nullptr, parameters = nullptr, results = nullptr;
    check(migraphx_program_get_parameter_shapes(&shapes, &p));
    closing close_shapes(shapes, migraphx_program_parameter_shapes_destroy);
    check(migraphx_program_parameters_create(&parameters));
    closing close_parameters(parameters, migraphx_program_parameters_destroy);
    for(auto value : values)
    {
        auto name = value.first.cast<std::string>();
        py::buffer_info info = value.second.cast<py::buffer>().request();
        const void* shape = nullptr;
        handle argument   = nullptr;
        check(migraphx_program_parameter_shapes_get(&shape, shapes, name.c_str()));
        check(migraphx_argument_create(&argument, shape, info.ptr));
        closing close_argument(argument, migraphx_argument_destroy);
        check(migraphx_program_parameters_add(parameters, name.c_str(), argument));
    }
    check(migraphx_program_run(&results, &p, parameters));
    closing close_results(results, migraphx_arguments_destroy);
    std::size_t count = 0;
    check(migraphx_arguments_size(&count, results));
    std::vector<py::array_t<float>> arrays;
    for(std::size_t i = 0; i < count; i++)
    {
        const void *argument = nullptr, *shape = nullptr;
        const std::size_t* lengths = nullptr;
        std::size_t rank           = 0;
        char* data                 = nullptr;
        check(migraphx_arguments_get(&argument, results, i));
        check(migraphx_argument_shape(&shape, argument));
        check(migraphx_shape_lengths(&lengths, &rank, shape));
        check(migraphx_argument_buffer(&data, argument));
        arrays.emplace_back(std::vector<std::size_t>(lengths, lengths + rank), reinterpret_cast<float*>(data));
    }
    return arrays;
}

static closing format(const std::string& name)
{
    handle options = nullptr;
    check(migraphx_file_options_create(&options));
    closing close(options, migraphx_file_options_destroy);
    check(migraphx_file_options_set_file_format(options, name.c_str()));
    return close;
}

PYBIND11_MODULE(migraphx, m)
{
    py::class_<migraphx_target, target>(m, "target");
    py::class_<migraphx_module, std::unique_ptr<migraphx_module, py::nodelete>>(m, "module");
    py::class_<migraphx_program, program>(m, "program")
        .def(py::init([] {
            migraphx_program* p = nullptr;
            check(migraphx_program_create(&p));
            return program(p);
        }))
        .def(
            "compile",
            [](migraphx_program& p, migraphx_target& t, bool offload_copy, bool, bool) {
                handle options = nullptr;
                check(migraphx_compile_options_create(&options));
                closing close(options, migraphx_compile_options_destroy);
                check(migraphx_compile_options_set_offload_copy(options, offload_copy));
                check(migraphx_program_compile(&p, &t, options));
            },
            py::arg("t"),
            py::arg("offload_copy")    = true,
            py::arg("fast_math")       = true,
            py::arg("exhaustive_tune") = false)
        .def("is_compiled",
             [](const py::object& p) {
                 auto mine = py::module_::import("iree_migraphx.binding");
                 return mine.attr("from_official")(p).attr("is_compiled")();
             })
        .def("get_parameter_names", &names)
        .def(
            "get_main_module",
            [](migraphx_program& p) {
                migraphx_module* found = nullptr;
                check(migraphx_program_get_main_module(&found, &p));
                return found;
            },
            py::return_value_policy::reference)
        .def(
            "create_module",
            [](migraphx_program& p, const std::string& name) {
                migraphx_module* made = nullptr;
                check(migraphx_program_create_module(&made, &p, name.c_str()));
                return made;
            },
            py::return_value_policy::reference,
            py::arg("name"))
        .def("run", &run)
        .def("__eq__",
             [](const migraphx_program& a, const migraphx_program& b) {
                 bool equal = false;
                 check(migraphx_program_equal(&equal, &a, &b));
                 return equal;
             })
        .def("__ne__", [](const migraphx_program& a, const migraphx_program& b) {
            bool equal = false;
            check(migraphx_program_equal(&equal, &a, &b));
            return not equal;
        });
    m.def("get_target", [](const std::string& name) {
        migraphx_target* t = nullptr;
        check(migraphx_target_create(&t, name.c_str()));
        return target(t);
    });
    m.def(
        "parse_onnx",
        [](const std::string& filename) {
            handle options = nullptr;
            check(migraphx_onnx_options_create(&options));
            closing close(options, migraphx_onnx_options_destroy);
            migraphx_program* p = nullptr;
            check(migraphx_parse_onnx(&p, filename.c_str(), options));
            return program(p);
        },
        py::arg("filename"));
    m.def(
        "load",
        [](const std::string& filename, const std::string& form) {
            migraphx_program* p = nullptr;
            check(migraphx_load(&p, filename.c_str(), format(form).get()));
            return program(p);
        },
        py::arg("filename"),
        py::arg("format") = "msgpack");
    m.def(
        "save",
        [](migraphx_program& p, const std::string& filename, const std::string& form) {
            check(migraphx_save(&p, filename.c_str(), format(form).get()));
        },
        py::arg("p"),
        py::arg("filename"),
        py::arg("format") = "msgpack");
    m.def("quantize_fp16", [](migraphx_program& p) { check(migraphx_quantize_fp16(&p)); }, py::arg("prog"));
    m.attr("shape")       = py::module_::import("iree_migraphx.binding").attr("shape");
    m.attr("__version__") = "2.14.0.dev";
}
