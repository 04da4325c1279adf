#include "convert/export.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <tuple>
#include <vector>

#include "base/file.h"
#include "convert/export_gguf.h"
#include "convert/panel_decoder.h"
#include "convert/value_encoder.h"
#include "format/container_reader.h"
#include "tests/support/check_error.h"
#include "tests/support/make_container.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tiny_release.h"

using namespace sluice;
using convert::ExportType;
using convert::Quant;
using tests::TempDir;

namespace {

convert::StoredPanel panel_of(const format::TileLayout& layout, base::Bytes matrix, std::uint64_t panel) {
  const auto plane = [&](std::uint64_t offset, std::uint64_t bytes) {
    return matrix.subspan(offset + panel * bytes, bytes);
  };
  return {plane(0, layout.panel_code_bytes),
          plane(layout.exponents_offset_bytes, layout.panel_exponent_bytes()),
          plane(layout.magnitudes_offset_bytes, layout.panel_magnitude_bytes()),
          plane(layout.signs_offset_bytes, layout.panel_sign_bytes()),
          plane(layout.row_scales_offset_bytes, has_row_scales(layout.type) ? 256 : 0)};
}

convert::ExportResult run(const std::filesystem::path& input, const std::filesystem::path& output,
                          convert::ExportFormat format, unsigned threads, std::uint64_t memory) {
  convert::ExportRequest request;
  request.input = input;
  request.output = output;
  request.format = format;
  request.thread_count = threads;
  request.memory_bytes = memory;
  base::NoProgress progress;
  return convert::export_model(request, progress, {});
}

}  // namespace

TEST_CASE("panels decode to what weight_at says") {
  for (const Quant quant : {Quant::bf16, Quant::q8, Quant::q6, Quant::q4}) {
    const TempDir folder;
    auto params = tests::tiny_params();
    params.hidden_dim = 100;  // not whole tiles
    tests::write_tiny_release(folder.path(), params, 5);
    const auto reader =
        format::ContainerReader::open(tests::make_container(folder.path(), folder / "m.sluice", quant));
    for (const auto& tensor : reader.tensors()) {
      if (!format::is_tiled(tensor.storage)) continue;
      CAPTURE(tensor.name);
      const auto layout = tensor.tile_layout();
      for (std::uint64_t panel = 0; panel < layout.panels; ++panel) {
        const std::uint64_t first = panel * format::kPanelRows;
        const std::uint64_t rows = std::min(format::kPanelRows, layout.rows - first);
        std::vector<float> values(rows * layout.cols);
        convert::decode_panel(layout, panel_of(layout, reader.bytes(tensor), panel), rows, values);
        for (std::size_t i = 0; i < values.size(); ++i) {
          REQUIRE(values[i] ==
                  format::weight_at(layout, reader.bytes(tensor), first + i / layout.cols, i % layout.cols));
        }
      }
    }
  }
}

TEST_CASE("every f16 comes back from f32, and what lies between rounds to the nearest") {
  for (unsigned bits = 0; bits < 0x7C00; ++bits) {
    const auto half = static_cast<std::uint16_t>(bits);
    const float value = format::f16_to_f32(half);
    REQUIRE(format::f32_to_f16(value) == half);
    REQUIRE(format::f32_to_f16(-value) == (half | 0x8000));
    const float next = bits == 0x7BFF ? 65536.0F : format::f16_to_f32(static_cast<std::uint16_t>(bits + 1));
    const float middle = value + (next - value) / 2;  // exact
    const unsigned even = bits + (bits & 1);
    REQUIRE(format::f32_to_f16(middle) == even);
    REQUIRE(format::f32_to_f16(std::nextafter(middle, 0.0F)) == bits);
    REQUIRE(format::f32_to_f16(std::nextafter(middle, next)) == bits + 1);
  }
  CHECK(format::f32_to_f16(1e30F) == 0x7C00);
  CHECK(format::f32_to_f16(std::numeric_limits<float>::quiet_NaN()) == 0x7E00);
}

TEST_CASE("Q8_0 blocks are those of its definition") {
  std::mt19937 random(1);
  for (int round = 0; round < 20000; ++round) {
    std::vector<float> values(32);
    // Includes halves of a step, where rounding away from zero differs from rounding to even.
    for (float& value : values) value = static_cast<float>(static_cast<int>(random() % 509) - 254) / 2.0F;
    if (round % 2 == 1) {
      for (float& value : values) value *= static_cast<float>(random() % 1000) * 1e-6F;
    }
    std::vector<std::byte> block(34);
    convert::encode_values(ExportType::q8_0, values, block);
    float greatest = 0;
    for (const float value : values) greatest = std::max(greatest, std::fabs(value));
    const float scale = greatest / 127.0F;
    REQUIRE(base::load_le<std::uint16_t>(block) == format::f32_to_f16(scale));
    for (std::size_t i = 0; i < values.size(); ++i) {
      const float expected = scale == 0 ? 0.0F : std::round(values[i] * (1.0F / scale));
      REQUIRE(static_cast<std::int8_t>(block[2 + i]) == static_cast<int>(expected));
    }
  }
}

TEST_CASE("Q4_0 blocks are those of ggml's reference") {
  std::mt19937 random(2);
  for (int round = 0; round < 20000; ++round) {
    std::vector<float> values(32);
    // Whole steps, halves of them and ties for the extreme in even rounds, any bits in odd ones.
    for (float& value : values) value = static_cast<float>(static_cast<int>(random() % 33) - 16) / 2.0F;
    if (round % 2 == 1) {
      for (float& value : values) value *= static_cast<float>(random() % 4096) * 0x1p-20F;
    }
    std::vector<std::byte> block(18);
    convert::encode_values(ExportType::q4_0, values, block);
    // The first value of largest magnitude decides the scale and its sign.
    const auto extreme = std::ranges::max_element(values, {}, [](float value) { return std::fabs(value); });
    const float scale = *extreme / -8.0F;
    REQUIRE(base::load_le<std::uint16_t>(block) == format::f32_to_f16(scale));
    for (std::size_t i = 0; i < values.size(); ++i) {
      const float steps = scale == 0 ? 0.0F : values[i] * (1.0F / scale);
      const auto expected = std::min(15.0F, std::floor(steps + 8.5F));
      const auto byte = std::to_integer<int>(block[2 + i % 16]);
      REQUIRE(static_cast<float>(i < 16 ? byte % 16 : byte / 16) == expected);
    }
  }
}

TEST_CASE("blocks of values too small for a scale are zero") {
  for (const auto& [type, bytes, middle] :
       {std::tuple{ExportType::q8_0, 34u, 0}, {ExportType::q4_0, 18u, 0x88}}) {
    std::vector<float> values(32, std::numeric_limits<float>::denorm_min());
    std::vector<std::byte> block(bytes);
    convert::encode_values(type, values, block);
    CHECK((base::load_le<std::uint16_t>(block) & 0x7FFF) == 0);
    for (std::size_t i = 2; i < bytes; ++i) CHECK(std::to_integer<int>(block[i]) == middle);
  }
}

TEST_CASE("the size of a large f32 export is told before it is written") {
  struct Told final : base::Progress {
    void begin(std::string_view, std::uint64_t) override {}
    void advance(std::uint64_t) override {}
    void warn(std::string_view message) override { text += message; }
    std::string text;
  };
  const std::uint64_t gib = 1u << 30;
  Told told;
  convert::warn_of_size(gib - 1, 1, {}, told);  // small
  convert::warn_of_size(gib, gib, {}, told);    // not larger than its input
  CHECK(told.text.empty());
  convert::warn_of_size(187 * gib, 26 * gib, {{"bf16", 94 * gib}, {"q8_0", 50 * gib}}, told);
  CHECK(told.text ==
        "this writes 187 GiB from 26.0 GiB, because f32 holds every value exactly; --quant bf16 would "
        "write 94.0 GiB, --quant q8_0 would write 50.0 GiB");
}

TEST_CASE("an export has the same bytes whatever the threads and the memory") {
  const TempDir folder;
  auto params = tests::tiny_params();
  params.hidden_dim = 320;
  tests::write_tiny_release(folder.path(), params, 3);
  for (const auto format : {convert::ExportFormat::gguf, convert::ExportFormat::safetensors}) {
    const auto first = run(folder.path(), folder / "1", format, 1, 512u << 20);
    const auto second = run(folder.path(), folder / "2", format, 3, 64u << 20);
    CHECK(first.weights.sha256 == second.weights.sha256);
    CHECK(base::read_file(folder / "1") == base::read_file(folder / "2"));
  }
}

TEST_CASE("dense models export without keys and names of experts, and their window as the context") {
  const TempDir folder;
  auto params = tests::tiny_params();
  params.num_experts = params.num_experts_per_tok = 0;
  params.sliding_window = 4096;
  params.rope_theta = 1e4;
  tests::write_tiny_release(folder.path(), params, 4);
  const auto result = run(folder.path(), folder / "m.gguf", convert::ExportFormat::gguf, 2, 512u << 20);
  CHECK(result.tensors == 3 + 9 * params.n_layers);
  const auto content = base::read_file(folder / "m.gguf");
  const auto text = base::as_text(content);
  CHECK(text.find("expert") == std::string_view::npos);
  CHECK(text.find("_exps") == std::string_view::npos);
  CHECK(text.find("blk.1.ffn_gate.weight") != std::string_view::npos);
  const auto at = text.find("llama.context_length");
  REQUIRE(at != std::string_view::npos);
  CHECK(base::load_le<std::uint32_t>(content, at + 20 + 4) == 4096);
}
