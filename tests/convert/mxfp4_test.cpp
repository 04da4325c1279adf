// MXFP4 in a conversion: it is kept bit for bit, and what the container says about it follows from its bytes.

#include <doctest/doctest.h>

#include <algorithm>
#include <string>

#include "base/file.h"
#include "convert/convert.h"
#include "convert/export.h"
#include "format/checkpoint_index.h"
#include "format/container_reader.h"
#include "format/mx/mx_rows.h"
#include "tests/support/check_error.h"
#include "tests/support/mxfp4_release.h"
#include "tests/support/temp_dir.h"

using namespace sluice;
using base::ErrorKind;
using convert::Quant;
using format::ContainerTensor;
using tests::MxMatrix;
using tests::MxRelease;
using tests::TempDir;

namespace {

const MxRelease& release() {
  static const MxRelease made = tests::make_mx_release(7);
  return made;
}

convert::Request request_of(const std::filesystem::path& input, const std::filesystem::path& output,
                            Quant quant) {
  convert::Request request;
  request.input = input;
  request.output = output;
  request.quant = quant;
  request.thread_count = 2;
  return request;
}

convert::Result run(const convert::Request& request) {
  base::NoProgress progress;
  return convert::convert(request, progress, {});
}

/// The rows of a tensor in mx4, taken out of its tiles.
std::string released_rows(const format::ContainerReader& reader, const ContainerTensor& tensor) {
  const format::TileLayout layout = tensor.tile_layout();
  const base::Bytes bytes = reader.bytes(tensor);
  std::string rows;
  for (std::uint64_t panel = 0; panel < layout.panels; ++panel) {
    const std::uint64_t count = std::min(format::kPanelRows, layout.rows - panel * format::kPanelRows);
    std::vector<std::byte> out(count * format::mx_row_bytes(layout.cols));
    const std::uint64_t exponent_bytes = layout.panel_exponent_bytes();
    format::mx_rows_of_panel(
        layout, bytes.subspan(panel * layout.panel_code_bytes, layout.panel_code_bytes),
        bytes.subspan(layout.exponents_offset_bytes + panel * exponent_bytes, exponent_bytes), count, out);
    rows += base::as_text(out);
  }
  return rows;
}

/// Every bit of padding is zero.
void check_padding(const format::TileLayout& layout, base::Bytes matrix) {
  for (std::uint64_t row = 0; row < layout.padded_rows; ++row) {
    for (std::uint64_t col = 0; col < layout.padded_cols; ++col) {
      if (row < layout.rows && col < layout.cols) continue;
      REQUIRE(format::mx4_code_at(layout, matrix, row, col) == 0);
      if (row >= layout.rows || col / 32 >= layout.cols / 32)
        REQUIRE(format::exponent_at(layout, matrix, row, col) == 0);
    }
  }
}

}  // namespace

TEST_CASE("MXFP4 stays as released with every type but bf16, and its source digest follows from the tiles") {
  const TempDir folder;
  tests::write_mx_release(folder.path(), release());
  for (const Quant quant : {Quant::q4, Quant::q6, Quant::q8}) {
    CAPTURE(static_cast<int>(quant));
    const auto result = run(request_of(folder.path(), folder / "m.sluice", quant));
    CHECK(result.bits_per_weight == 4.25);
    CHECK(result.relative_error == 0);
    CHECK(result.kept_tensors == release().experts.size());
    const auto reader = format::ContainerReader::open(folder / "m.sluice");
    CHECK(reader.recipe().at("kept", "recipe").at("mx4", "kept").as_uint("mx4") == release().experts.size());
    std::size_t kept = 0;
    for (const ContainerTensor& tensor : reader.tensors()) {
      CAPTURE(tensor.name);
      CHECK((tensor.storage == format::Storage::mx4_tiles) == release().experts.contains(tensor.name));
      if (tensor.storage != format::Storage::mx4_tiles) continue;
      ++kept;
      CHECK(released_rows(reader, tensor) == release().released_rows(tensor.name));
      CHECK(tensor.source_dtype == format::DType::mxfp4);
      CHECK(format::mx_source_digest(reader, tensor) == tensor.source_digest);
      check_padding(tensor.tile_layout(), reader.bytes(tensor));
      const MxMatrix& matrix = release().experts.at(tensor.name);
      for (std::uint64_t row = 0; row < matrix.rows; ++row)
        for (std::uint64_t col = 0; col < matrix.cols; ++col)
          REQUIRE(format::weight_at(tensor.tile_layout(), reader.bytes(tensor), row, col) ==
                  matrix.value(row, col));
    }
    CHECK(kept == release().experts.size());
  }
}

TEST_CASE("MXFP4 as bf16 has the same values and the same source digests") {
  const TempDir folder;
  tests::write_mx_release(folder.path(), release());
  const auto result = run(request_of(folder.path(), folder / "b.sluice", Quant::bf16));
  CHECK(result.bits_per_weight == 16);
  CHECK(result.kept_tensors == 0);
  static_cast<void>(run(request_of(folder.path(), folder / "m.sluice", Quant::q4)));
  const auto bf16 = format::ContainerReader::open(folder / "b.sluice");
  const auto mx4 = format::ContainerReader::open(folder / "m.sluice");
  for (const auto& [name, matrix] : release().experts) {
    CAPTURE(name);
    const ContainerTensor& tensor = *bf16.find(name);
    CHECK(tensor.storage == format::Storage::bf16_tiles);
    CHECK(tensor.source_dtype == format::DType::mxfp4);
    CHECK(tensor.source_digest == mx4.find(name)->source_digest);
    for (std::uint64_t row = 0; row < matrix.rows; ++row)
      for (std::uint64_t col = 0; col < matrix.cols; ++col)
        REQUIRE(format::weight_at(tensor.tile_layout(), bf16.bytes(tensor), row, col) ==
                matrix.value(row, col));
  }
}

TEST_CASE("the hub's files and GGUF give the same experts, with any number of threads and any memory") {
  const TempDir folder;
  tests::write_mx_release(folder.path(), release());
  static_cast<void>(run(request_of(folder.path(), folder / "hub.sluice", Quant::q4)));
  const auto hub = format::ContainerReader::open(folder / "hub.sluice");
  convert::Request small = request_of(folder.path(), folder / "small.sluice", Quant::q4);
  small.thread_count = 3;
  small.memory_bytes = 64u << 20;
  static_cast<void>(run(small));
  CHECK(base::read_file(folder / "small.sluice") == base::read_file(folder / "hub.sluice"));
  const TempDir other;
  tests::write_mx_gguf(other / "m.gguf", release());
  static_cast<void>(run(request_of(other / "m.gguf", other / "gguf.sluice", Quant::q4)));
  const auto gguf = format::ContainerReader::open(other / "gguf.sluice");
  for (const auto& [name, matrix] : release().experts) {
    CAPTURE(name);
    CHECK(gguf.find(name)->digest == hub.find(name)->digest);
    CHECK(gguf.find(name)->source_digest == hub.find(name)->source_digest);
  }
  CHECK(gguf.recipe().find("lossy_source") == nullptr);
}

TEST_CASE("a calibration of experts that are kept is refused before the text is run") {
  const TempDir folder;
  tests::write_mx_release(folder.path(), release());
  convert::Request request = request_of(folder.path(), folder / "m.sluice", Quant::q4);
  request.calibration.emplace();
  request.calibration->begin = [] { FAIL("the text was run"); };
  CHECK_ERROR(run(request), ErrorKind::usage,
              "its experts are MXFP4, which is kept as it is: there is nothing to calibrate");
}

TEST_CASE("damaged tiles of mx4 are repaired from the release") {
  const TempDir folder;
  std::filesystem::create_directory(folder / "release");
  tests::write_mx_release(folder / "release", release());
  convert::RepairRequest repair;
  repair.container = folder / "m.sluice";
  repair.conversion = request_of(folder / "release", repair.container, Quant::q4);
  static_cast<void>(run(repair.conversion));
  const auto good = base::read_file(repair.container);
  const auto& tensor =
      *format::ContainerReader::open(repair.container).find("layers.1.feed_forward.experts.2.w3.weight");
  for (const std::uint64_t at : {tensor.offset_bytes + 77, tensor.offset_bytes + tensor.length_bytes - 1}) {
    base::File file = base::File::open_update(repair.container);
    const std::byte byte = good[at] ^ std::byte{4};
    file.write_at(at, {&byte, 1});
    repair.damage.push_back({at, 1});
  }
  base::NoProgress progress;
  CHECK(convert::repair(repair, progress, {}).tensors == 1);
  CHECK(base::read_file(repair.container) == good);
}

TEST_CASE("an export of mx4 has the released values in bf16, bit for bit") {
  const TempDir folder;
  tests::write_mx_release(folder.path(), release());
  static_cast<void>(run(request_of(folder.path(), folder / "m.sluice", Quant::q4)));
  convert::ExportRequest request;
  request.input = folder / "m.sluice";
  request.output = folder / "m.safetensors";
  request.format = convert::ExportFormat::safetensors;
  base::NoProgress progress;
  static_cast<void>(convert::export_model(request, progress, {}));
  const auto index = format::open_checkpoint(folder / "m.safetensors");
  const std::string file = base::read_text_file(folder / "m.safetensors", 64u << 20);
  for (const auto& native : release().native) {
    if (!release().experts.contains(native.name)) continue;
    CAPTURE(native.name);
    const auto* tensor = index.find(native.name);
    REQUIRE(tensor != nullptr);
    CHECK(tensor->dtype == format::DType::bf16);
    CHECK(file.substr(tensor->offset_bytes, native.bytes.size()) == native.bytes);
  }
}

TEST_CASE(
    "the tiny gpt-oss of the golden numbers: its experts come out of the tiles as its files have them") {
  const std::filesystem::path release_folder = SLUICE_TEST_DATA "/families/gpt_oss/model";
  const TempDir folder;
  const auto result = run(request_of(release_folder, folder / "m.sluice", Quant::q4));
  CHECK(result.kept_tensors == 4 * 8 * 3);  // layers, experts, matrices
  const auto reader = format::ContainerReader::open(folder / "m.sluice");
  const auto index = format::open_checkpoint(release_folder);
  std::vector<std::string> files;
  for (const auto& path : index.files) {
    const auto bytes = base::read_file(path);
    files.emplace_back(base::as_text(bytes));
  }
  for (const ContainerTensor& tensor : reader.tensors()) {
    if (tensor.storage != format::Storage::mx4_tiles) continue;
    CAPTURE(tensor.name);
    // layers.L.feed_forward.experts.E.wN.weight
    const std::string layer = tensor.name.substr(7, 1);
    const std::uint64_t expert = std::stoull(tensor.name.substr(tensor.name.find(".experts.") + 9));
    const char matrix = tensor.name[tensor.name.find(".w") + 2];
    const std::string name =
        "model.layers." + layer + ".mlp.experts." + (matrix == '2' ? "down_proj" : "gate_up_proj");
    const std::uint64_t turns = matrix == '2' ? 1 : 2;
    const std::uint64_t blocks = tensor.shape[1] / 32;
    const auto line = [&](const char* ending, std::uint64_t row, std::uint64_t bytes) {
      const auto* source = index.find(name + ending);
      REQUIRE(source != nullptr);
      const std::uint64_t file_row = (expert * tensor.shape[0] + row) * turns + (matrix == '3' ? 1 : 0);
      return files[source->file_index].substr(source->offset_bytes + file_row * bytes, bytes);
    };
    std::string expected;
    for (std::uint64_t row = 0; row < tensor.shape[0]; ++row)
      expected += line("_blocks", row, blocks * 16) + line("_scales", row, blocks);
    CHECK(released_rows(reader, tensor) == expected);
  }
  // The example of docs/container.md.
  const ContainerTensor& example = *reader.find("layers.0.feed_forward.experts.0.w1.weight");
  CHECK(example.shape == format::Shape{96, 160});
  CHECK(example.tile_layout().code_offset_bytes(5, 37) == 1045);
  CHECK(reader.bytes(example)[1045] == std::byte{0xa0});
  CHECK(example.tile_layout().exponent_offset_bytes(5, 37) == 12357);
  CHECK(reader.bytes(example)[12357] == std::byte{0x7b});
  CHECK(format::weight_at(example.tile_layout(), reader.bytes(example), 5, 37) == -0.0625f);
}
