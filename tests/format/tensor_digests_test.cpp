#include "format/tensor_digests.h"

#include <doctest/doctest.h>

#include <cstring>

#include "base/file.h"
#include "base/merkle.h"
#include "tests/support/check_error.h"
#include "tests/support/pth_writer.h"
#include "tests/support/temp_dir.h"

using namespace sluice;
using format::DType;
using format::ManifestTensor;

namespace {

std::string counting(std::size_t count) {
  std::string bytes;
  for (std::size_t i = 0; i < count; ++i) {
    const auto value = static_cast<std::uint16_t>(i * 7 + i / 256);
    bytes.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  return bytes;
}

/// The reference implementation: fetches every element through the strides, and hashes the whole message at
/// once.
base::Sha256 slow_digest(const format::CheckpointTensor& tensor, base::Bytes file) {
  const std::size_t width = format::size_bytes(tensor.dtype);
  const std::uint64_t count = format::element_count(tensor.shape).value();
  std::vector<std::byte> values;
  for (std::uint64_t i = 0; i < count; ++i) {
    std::uint64_t rest = i;
    std::uint64_t element = 0;
    for (std::size_t axis = tensor.shape.size(); axis-- > 0; rest /= tensor.shape[axis])
      element += rest % tensor.shape[axis] * tensor.strides[axis];
    const auto bytes = file.subspan(tensor.offset_bytes + element * width, width);
    values.insert(values.end(), bytes.begin(), bytes.end());
  }
  return base::merkle_digest(values);
}

}  // namespace

TEST_CASE("a tensor's digest is over its values in order, whatever strides they lie in") {
  const tests::TempDir folder;
  tests::PthWriter writer;
  writer.add("whole", DType::bf16, {300, 4001}, counting(300 * 4001));
  writer.add_view("transposed", {4001, 300}, {1, 4001}, 0);
  writer.add_view("columns", {300, 1000}, {4001, 3}, 17);
  writer.add_view("cube", {3, 50, 4001}, {400100, 8002, 1}, 0);
  writer.add_view("one_block", {8192}, {1}, 5);
  writer.add_view("one_more", {8193}, {1}, 5);
  writer.add_view("scalar", {}, {}, 23);
  writer.add_view("none", {0, 6}, {6, 1}, 24);
  writer.add("bytes", DType::u8, {5}, "abcde");
  const auto path = folder.path() / "a.pth";
  writer.write(path);
  const auto index = format::open_pth(path);
  const auto content = base::read_file(path);
  base::NoProgress progress;
  const auto alone = format::digest_tensors(index, 1, progress, {});
  REQUIRE(alone.size() == index.tensors.size());
  for (std::size_t i = 0; i < alone.size(); ++i) {
    const auto& tensor = index.tensors[i];
    CAPTURE(tensor.name);
    CHECK(alone[i] == ManifestTensor{tensor.name, tensor.dtype, tensor.shape, slow_digest(tensor, content)});
  }
  CHECK(format::digest_tensors(index, 4, progress, {}) == alone);
  std::stop_source stop;
  stop.request_stop();
  CHECK_ERROR(format::digest_tensors(index, 2, progress, stop.get_token()), base::ErrorKind::interrupted,
              "interrupted");
}
