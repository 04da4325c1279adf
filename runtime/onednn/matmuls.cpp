// Calls into oneDNN: the only file that includes its headers.
//
// Threads: Debian builds oneDNN with OpenMP. By itself it would open an OpenMP region with a thread a core
// for every call, and these threads spin afterwards, on cores that the runtime's own workers use. So each
// calling thread sets its own OpenMP thread count to 1 once; oneDNN then calls its loops directly and starts
// no thread (tests/runtime/onednn_test.cpp counts them). Errors of oneDNN are translated to base::Error here.

#include "runtime/onednn/matmuls.h"

#include <omp.h>

#include <array>
#include <oneapi/dnnl/dnnl.hpp>
#include <string>

#include "base/error.h"
#include "runtime/onednn/onednn.h"

namespace sluice::runtime {
namespace {

using Tag = dnnl::memory::format_tag;
using Type = dnnl::memory::data_type;
using dnnl::memory;

/// OpenMP's number of threads is a setting of each thread, so every worker has to make it, and once is
/// enough.
void use_one_thread() {
  thread_local bool done = false;
  if (done) return;
  omp_set_num_threads(1);
  done = true;
}

[[noreturn]] void rethrow(const dnnl::error& error) {
  throw base::Error(base::ErrorKind::io, std::string("oneDNN: ") + error.what());
}

memory::dim dim(std::size_t value) { return static_cast<memory::dim>(value); }

/// The element types and the weights' layout of one kind of product.
struct Kind {
  Type source;
  Type weights;
  Type out;
  Tag layout;
};
// The weights' layouts are those of the container's tiles (format/tile.h), so oneDNN reads them without a
// reorder.
constexpr std::array kKinds = {Kind{Type::bf16, Type::bf16, Type::f32, Tag::BA16a64b2a},
                               Kind{Type::u8, Type::s8, Type::s32, Tag::BA16a64b4a}};
constexpr std::size_t kBf16 = 0;
constexpr std::size_t kU8 = 1;

/// There is one primitive for every number of rows, and prompts have any. When this many exist, all are
/// dropped; making them again is cheap, see below.
constexpr std::size_t kPrimitivesMax = 256;

struct Shape {
  std::size_t kind;
  std::size_t rows;
  std::size_t cols;
  std::size_t width;
  auto operator<=>(const Shape&) const = default;
};

struct Primitive {
  Primitive(const Shape& shape, const dnnl::engine& engine)
      : source({dim(shape.rows), dim(shape.cols)}, kKinds[shape.kind].source, Tag::ab),
        weights({dim(shape.cols), dim(shape.width)}, kKinds[shape.kind].weights, kKinds[shape.kind].layout),
        out({dim(shape.rows), dim(shape.width)}, kKinds[shape.kind].out, Tag::ab) {
    // By default oneDNN's scratchpad belongs to the thread that makes a primitive, but the caller of a
    // session may be another thread each time. So the scratchpad is ours.
    dnnl::primitive_attr attributes;
    attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    const dnnl::matmul::primitive_desc description(dnnl::matmul::desc(source, weights, out), attributes,
                                                   engine);
    matmul = dnnl::matmul(description);
    scratchpad = memory(description.scratchpad_desc(), engine);
  }

  memory::desc source;
  memory::desc weights;
  memory::desc out;
  dnnl::matmul matmul;
  memory scratchpad;
};

}  // namespace

struct Matmuls::Impl {
  dnnl::engine engine{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream{engine};
  std::map<Shape, Primitive> primitives;

  /// Making a primitive takes 50 to 300 us where oneDNN's own cache, which all threads share, has none of
  /// that shape, and 5 us where it has.
  Primitive& primitive(const Shape& shape) {
    const auto found = primitives.find(shape);
    if (found != primitives.end()) return found->second;
    if (primitives.size() == kPrimitivesMax) primitives.clear();
    return primitives.emplace(shape, Primitive(shape, engine)).first->second;
  }

  void multiply(const Shape& shape, const void* source, const void* weights, void* out) {
    try {
      use_one_thread();
      Primitive& p = primitive(shape);
      // oneDNN takes all memory as writable, and writes to the last argument alone.
      const memory a(p.source, engine, const_cast<void*>(source));
      const memory b(p.weights, engine, const_cast<void*>(weights));
      const memory c(p.out, engine, out);
      p.matmul.execute(
          stream,
          {{DNNL_ARG_SRC, a}, {DNNL_ARG_WEIGHTS, b}, {DNNL_ARG_DST, c}, {DNNL_ARG_SCRATCHPAD, p.scratchpad}});
      stream.wait();
    } catch (const dnnl::error& error) {
      rethrow(error);
    }
  }
};

Matmuls::Matmuls() : impl_(std::make_unique<Impl>()) {}
Matmuls::~Matmuls() = default;

void Matmuls::multiply_bf16(std::size_t rows, std::size_t cols, std::size_t width,
                            const std::uint16_t* source, const std::byte* weights, float* out) {
  impl_->multiply({kBf16, rows, cols, width}, source, weights, out);
}

void Matmuls::multiply_u8(std::size_t rows, std::size_t cols, std::size_t width, const std::uint8_t* source,
                          const std::int8_t* weights, std::int32_t* out) {
  impl_->multiply({kU8, rows, cols, width}, source, weights, out);
}

void multiply_f32(const FloatProduct& p) {
  try {
    use_one_thread();
    const auto status =
        dnnl::sgemm('N', 'N', dim(p.rows), dim(p.width), dim(p.cols), 1.0f, p.source, dim(p.source_stride),
                    p.weights, dim(p.width), p.add ? 1.0f : 0.0f, p.out, dim(p.out_stride));
    if (status != dnnl::status::success) throw base::Error(base::ErrorKind::io, "oneDNN: sgemm failed");
  } catch (const dnnl::error& error) {
    rethrow(error);
  }
}

OneDnnIsa onednn_isa() {
  // dnnl::cpu_isa values are sets of bits: that of an instruction set includes those of all that it builds
  // on.
  const auto effective = static_cast<unsigned>(dnnl::get_effective_cpu_isa());
  const auto has = [&](dnnl::cpu_isa isa) {
    return (effective & static_cast<unsigned>(isa)) == static_cast<unsigned>(isa);
  };
#if defined(__x86_64__)
  return {.vnni = has(dnnl::cpu_isa::avx512_core_vnni),
          .bf16 = has(dnnl::cpu_isa::avx512_core_bf16),
          .amx = has(dnnl::cpu_isa::avx512_core_amx)};
#else
  static_cast<void>(has);
  return {};
#endif
}

MatmulInfo matmul_info() {
  const dnnl_version_t* const version = dnnl::version();
  struct Name {
    dnnl::cpu_isa isa;
    const char* name;
  };
  constexpr std::array kNames = {Name{dnnl::cpu_isa::sse41, "sse41"},
                                 Name{dnnl::cpu_isa::avx, "avx"},
                                 Name{dnnl::cpu_isa::avx2, "avx2"},
                                 Name{dnnl::cpu_isa::avx2_vnni, "avx2_vnni"},
                                 Name{dnnl::cpu_isa::avx512_core, "avx512_core"},
                                 Name{dnnl::cpu_isa::avx512_core_vnni, "avx512_core_vnni"},
                                 Name{dnnl::cpu_isa::avx512_core_bf16, "avx512_core_bf16"},
                                 Name{dnnl::cpu_isa::avx512_core_amx, "avx512_core_amx"}};
  const auto effective = dnnl::get_effective_cpu_isa();
  std::string isa = std::to_string(static_cast<unsigned>(effective));
  for (const Name& name : kNames)
    if (name.isa == effective) isa = name.name;
  return {.isa = detect_isa(),
          .onednn_version = std::to_string(version->major) + "." + std::to_string(version->minor) + "." +
                            std::to_string(version->patch),
          .onednn_isa = std::move(isa)};
}

}  // namespace sluice::runtime
