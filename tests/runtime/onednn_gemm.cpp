#include "tests/runtime/onednn_gemm.h"

#include <omp.h>

#include <bit>
#include <map>
#include <oneapi/dnnl/dnnl.hpp>
#include <string>
#include <tuple>
#include <unordered_map>

#include "base/error.h"
#include "base/invariant.h"

namespace sluice::tests {

struct OnednnGemm::Impl {
  using Shape = std::tuple<std::size_t, std::size_t, std::size_t>;

  dnnl::engine engine{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream{engine};
  std::map<Shape, dnnl::matmul> primitives;

  const dnnl::matmul& primitive(const Shape& shape);
};

namespace {

using Tag = dnnl::memory::format_tag;
using Type = dnnl::memory::data_type;

dnnl::memory::desc source_desc(std::size_t rows, std::size_t cols) {
  return {{static_cast<dnnl::memory::dim>(rows), static_cast<dnnl::memory::dim>(cols)}, Type::u8, Tag::ab};
}
dnnl::memory::desc weights_desc(std::size_t cols, std::size_t width) {
  return {{static_cast<dnnl::memory::dim>(cols), static_cast<dnnl::memory::dim>(width)},
          Type::s8,
          Tag::BA16a64b4a};
}
dnnl::memory::desc out_desc(std::size_t rows, std::size_t width) {
  return {{static_cast<dnnl::memory::dim>(rows), static_cast<dnnl::memory::dim>(width)}, Type::s32, Tag::ab};
}

}  // namespace

const dnnl::matmul& OnednnGemm::Impl::primitive(const Shape& shape) {
  const auto found = primitives.find(shape);
  if (found != primitives.end()) return found->second;
  omp_set_num_threads(1);
  const auto [rows, cols, width] = shape;
  const dnnl::matmul::desc desc(source_desc(rows, cols), weights_desc(cols, width), out_desc(rows, width));
  return primitives.emplace(shape, dnnl::matmul(dnnl::matmul::primitive_desc(desc, engine))).first->second;
}

OnednnGemm::OnednnGemm() : impl_(std::make_unique<Impl>()) {}
OnednnGemm::~OnednnGemm() = default;

void OnednnGemm::multiply(std::size_t rows, std::size_t cols, std::size_t width, const std::uint8_t* source,
                          const std::int8_t* weights, std::int32_t* out) {
  INVARIANT(rows <= kOnednnRowsMax);
  const std::size_t bucket = std::bit_ceil(rows);
  try {
    omp_set_num_threads(1);
    const dnnl::matmul& matmul = impl_->primitive({bucket, cols, width});
    dnnl::memory a(source_desc(bucket, cols), impl_->engine, const_cast<std::uint8_t*>(source));
    dnnl::memory b(weights_desc(cols, width), impl_->engine, const_cast<std::int8_t*>(weights));
    dnnl::memory c(out_desc(bucket, width), impl_->engine, out);
    matmul.execute(impl_->stream, {{DNNL_ARG_SRC, a}, {DNNL_ARG_WEIGHTS, b}, {DNNL_ARG_DST, c}});
    impl_->stream.wait();
  } catch (const dnnl::error& error) {
    throw base::Error(base::ErrorKind::io, std::string("oneDNN: ") + error.what());
  }
}

}  // namespace sluice::tests
