// Containers that are consistent, every digest right, and still wrong: what a stranger could publish.

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "format/container_reader.h"
#include "format/container_writer.h"
#include "runtime/runtime.h"
#include "tests/support/check_error.h"
#include "tests/support/make_container.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tiny_release.h"

using namespace sluice;
using base::ErrorKind;
using format::ContainerReader;
using format::ContainerTensor;
using runtime::Model;
using runtime::Session;
using runtime::SessionOptions;
using runtime::TokenId;
using tests::TempDir;

namespace {

const std::vector<TokenId> kPrompt = {1, 400, 500, 600, 700, 800, 900, 1000, 1100, 1200,
                                      5, 450, 550, 650, 750, 850, 950, 1050, 1150, 1250};

struct Replacement {
  format::Storage storage;
  std::vector<std::byte> bytes;
};

/// Writes `source` again with what `replace` makes of each tensor, and digests to match.
void rewrite(const ContainerReader& source, const std::filesystem::path& path,
             const std::function<Replacement(const ContainerTensor&, std::vector<std::byte>)>& replace) {
  format::ContainerWriter writer(path, source.description());
  for (const auto& section : source.sections()) writer.add_section(section.name, source.bytes(section));
  for (const auto& target : format::model_tensors(source.description())) {
    const ContainerTensor& tensor = *source.find(target.name);
    const base::Bytes bytes = source.bytes(tensor);
    const Replacement replacement = replace(tensor, {bytes.begin(), bytes.end()});
    const bool is_mx4 = replacement.storage == format::Storage::mx4_tiles;
    writer.begin_tensor(target, replacement.storage, is_mx4 ? format::DType::mxfp4 : tensor.source_dtype);
    writer.append(replacement.bytes);
    writer.end_tensor(tensor.source_digest);
  }
  static_cast<void>(writer.finish());
}

/// A tiny container with one float replaced in one tensor.
void rewrite_float(const std::filesystem::path& from, const std::filesystem::path& to,
                   const std::string& name, std::uint64_t offset_bytes, float value) {
  rewrite(ContainerReader::open(from), to, [&](const ContainerTensor& tensor, std::vector<std::byte> bytes) {
    if (tensor.name == name) base::store_le(bytes, offset_bytes, value);
    return Replacement{tensor.storage, std::move(bytes)};
  });
}

void run(const std::filesystem::path& path) {
  const Model model = Model::open(path);
  Session session(model, {});
  session.feed(kPrompt);
}

}  // namespace

TEST_CASE("values that are not finite are refused by the tensor's name") {
  const TempDir folder;
  tests::write_tiny_release(folder.path(), tests::tiny_params(), 4);
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const auto q4 = tests::make_container(folder.path(), folder / "q4", convert::Quant::q4);
  for (const char* name :
       {"norm.weight", "layers.0.attention_norm.weight", "layers.1.feed_forward.gate.weight"}) {
    rewrite_float(q4, folder / "bad", name, 8, nan);
    CHECK_ERROR(run(folder / "bad"), ErrorKind::malformed,
                std::string(name) + "' holds values that are not finite");
  }
  const auto reader = ContainerReader::open(q4);
  for (const char* name : {"output.weight", "layers.0.attention.wq.weight"}) {
    const auto offset = reader.find(name)->tile_layout().row_scales_offset_bytes;
    rewrite_float(q4, folder / "bad", name, offset, nan);
    CHECK_ERROR(run(folder / "bad"), ErrorKind::malformed,
                std::string(name) + "' holds values that are not finite");
  }
  const auto bf16 = tests::make_container(folder.path(), folder / "bf16", convert::Quant::bf16);
  for (const char* name : {"tok_embeddings.weight", "output.weight", "layers.0.attention.wk.weight"}) {
    rewrite_float(bf16, folder / "bad", name, 64, std::numeric_limits<float>::infinity());
    CHECK_ERROR(run(folder / "bad"), ErrorKind::malformed,
                std::string(name) + "' holds values that are not finite");
  }
}

TEST_CASE("numbers that overflow on the way are an error, not a text") {
  const TempDir folder;
  tests::write_tiny_release(folder.path(), tests::tiny_params(), 4);
  for (const auto quant : {convert::Quant::q8, convert::Quant::bf16}) {
    const auto good = tests::make_container(folder.path(), folder / "good", quant);
    rewrite_float(good, folder / "bad", "norm.weight", 0, 3e38f);
    CHECK_ERROR(run(folder / "bad"), ErrorKind::malformed, "are not finite");
    rewrite_float(good, folder / "bad", "layers.0.ffn_norm.weight", 0, 3e38f);
    CHECK_ERROR(run(folder / "bad"), ErrorKind::malformed, "finite");
  }
}

TEST_CASE("mx4: exponents that are no numbers, infinite weights and padding are refused, zeros are not") {
  const TempDir folder;
  auto params = tests::tiny_params();
  params.dim = 72;
  params.head_dim = 24;
  tests::write_tiny_release(folder.path(), params, 4);
  const auto q8 =
      ContainerReader::open(tests::make_container(folder.path(), folder / "q8", convert::Quant::q8));
  const std::string name = "layers.0.attention.wo.weight";
  const format::TileLayout layout(format::TileType::mx4, 72, 96);
  // Codes of 6 under the exponent 252 are finite, under 253 they are not.
  const auto run_with = [&](std::uint64_t row, std::uint64_t col, unsigned code, unsigned exponent) {
    rewrite(q8, folder / "mx4", [&](const ContainerTensor& tensor, std::vector<std::byte> bytes) {
      if (tensor.name != name) return Replacement{tensor.storage, std::move(bytes)};
      std::vector<std::byte> mx4(layout.total_bytes);
      mx4[layout.code_offset_bytes(row, col)] =
          std::byte(format::TileLayout::in_high_nibble(col) ? code << 4 : code);
      mx4[layout.exponent_offset_bytes(row, col)] = std::byte(exponent);
      return Replacement{format::Storage::mx4_tiles, std::move(mx4)};
    });
    run(folder / "mx4");
  };
  const std::string not_finite = name + "' holds values that are not finite";
  run_with(71, 71, 0, 254);
  run_with(3, 5, 1, 120);
  CHECK_ERROR(run_with(3, 5, 7, 253), ErrorKind::malformed, not_finite);
  CHECK_ERROR(run_with(71, 71, 0, 255), ErrorKind::malformed, not_finite);
  CHECK_ERROR(run_with(3, 127, 0, 255), ErrorKind::malformed, not_finite);
  CHECK_ERROR(run_with(127, 5, 0, 255), ErrorKind::malformed, not_finite);
  CHECK_ERROR(run_with(72, 5, 1, 0), ErrorKind::malformed, name + "': its padding is not zero");
}

TEST_CASE("rows beyond the matrix must be zero") {
  const TempDir folder;
  auto params = tests::tiny_params();
  params.dim = 72;
  params.head_dim = 18;
  tests::write_tiny_release(folder.path(), params, 4);
  const std::string name = "layers.0.attention.wo.weight";
  for (const auto quant : {convert::Quant::q8, convert::Quant::q6, convert::Quant::q4}) {
    const auto good = tests::make_container(folder.path(), folder / "good", quant);
    const auto layout = ContainerReader::open(good).find(name)->tile_layout();
    REQUIRE(layout.padded_rows > layout.rows);
    rewrite_float(good, folder / "bad", name, layout.row_scales_offset_bytes + layout.rows * 4, 1.0f);
    CHECK_ERROR(run(folder / "bad"), ErrorKind::malformed, name + "': its padding is not zero");
  }
}

TEST_CASE("experts of q4, q6, q8 and mx4 in one layer give the same bits however they are fed") {
  const TempDir folder;
  tests::write_tiny_release(folder.path(), tests::tiny_params(), 4);
  const auto q4 =
      ContainerReader::open(tests::make_container(folder.path(), folder / "q4", convert::Quant::q4));
  const auto q8 =
      ContainerReader::open(tests::make_container(folder.path(), folder / "q8", convert::Quant::q8));
  const auto q6 =
      ContainerReader::open(tests::make_container(folder.path(), folder / "q6", convert::Quant::q6));
  rewrite(q4, folder / "mixed", [&](const ContainerTensor& tensor, std::vector<std::byte> bytes) {
    if (tensor.name.find("experts.3.") != std::string::npos) {
      const base::Bytes other = q6.bytes(*q6.find(tensor.name));
      return Replacement{format::Storage::q6_tiles, {other.begin(), other.end()}};
    }
    if (tensor.name.find("experts.0.") != std::string::npos) {
      // Any bytes are codes; exponents near 120 make weights of usual sizes.
      const format::TileLayout layout(format::TileType::mx4, tensor.shape[0], tensor.shape[1]);
      std::vector<std::byte> mx4(layout.total_bytes, std::byte{0xA7});
      for (std::uint64_t i = layout.exponents_offset_bytes; i < layout.total_bytes; ++i)
        mx4[i] = static_cast<std::byte>(117 + i % 5);
      return Replacement{format::Storage::mx4_tiles, std::move(mx4)};
    }
    if (tensor.name.find("experts.1.") == std::string::npos &&
        tensor.name.find("experts.2.w3") == std::string::npos)
      return Replacement{tensor.storage, std::move(bytes)};
    const base::Bytes other = q8.bytes(*q8.find(tensor.name));
    return Replacement{format::Storage::q8_tiles, {other.begin(), other.end()}};
  });
  const Model model = Model::open(folder / "mixed");
  SessionOptions two_threads;
  two_threads.thread_count = 2;
  Session at_once(model, two_threads);
  const auto logits = at_once.feed(kPrompt);
  const std::vector<float> expected(logits.begin(), logits.end());
  Session one_by_one(model, {});
  for (const TokenId token : kPrompt) {
    const auto next = one_by_one.feed(std::span(&token, 1));
    if (one_by_one.position() == kPrompt.size())
      CHECK(std::memcmp(next.data(), expected.data(), expected.size() * sizeof(float)) == 0);
  }
}
