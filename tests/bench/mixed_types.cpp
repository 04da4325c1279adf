// Converts a release with other types than `sluice convert` takes, to see what they cost:
//
//   mixed_types RELEASE WORK OUTPUT EXPERTS ATTENTION HEAD EMBEDDING ROUTER
//
// The types are bf16, q8, q6 or q4. The first three stand in the container as such. Embedding and router can
// only be bf16 there; with other types their values are those that rounding leaves, so that what it costs is
// seen all the same (those of the embedding then in bf16, which adds 0.002 to their relative error). The
// folder WORK is for the release with rounded values.

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "convert/convert.h"
#include "convert/panel_encoder.h"
#include "convert/plan.h"
#include "format/released_model.h"
#include "tests/support/quantize_row.h"
#include "tests/support/safetensors_writer.h"

using namespace sluice;
using convert::Quant;
namespace fs = std::filesystem;

namespace {

void round_q8(std::span<float> row) {
  std::vector<std::int8_t> codes(row.size());
  const float scale = tests::quantize_row_q8(row, codes);
  for (std::size_t i = 0; i < row.size(); ++i) row[i] = scale * static_cast<float>(codes[i]);
}

void round_q6(std::span<float> row) {
  const format::TileLayout layout(format::TileType::q6, 1, row.size());
  std::vector<std::byte> codes(layout.panel_code_bytes);
  convert::EncodedPanel panel;
  panel.begin(layout);
  convert::PanelEncoder encoder;
  for (std::size_t strip = 0; strip < convert::kPanelStrips; ++strip)
    encoder.encode(layout, strip, strip == 0 ? row : std::span<const float>(), codes, panel);
  std::vector<std::byte> matrix = std::move(codes);
  for (const auto& [plane, offset_bytes] : {std::pair{&panel.magnitudes, layout.magnitudes_offset_bytes},
                                            {&panel.row_scales, layout.row_scales_offset_bytes}}) {
    matrix.resize(offset_bytes);
    matrix.insert(matrix.end(), plane->begin(), plane->end());
  }
  for (std::size_t i = 0; i < row.size(); ++i) row[i] = format::weight_at(layout, matrix, 0, i);
}

void round_q4(std::span<float> row) {
  convert::Q4Row q;
  tests::quantize_row_q4(row, q);
  for (std::size_t i = 0; i < row.size(); ++i)
    row[i] = q.scale * static_cast<float>(q.codes[i] * q.sub_scales[i / 16]);
}

void round_row(std::span<float> row, Quant type) {
  switch (type) {
    case Quant::bf16: return;
    case Quant::q8: return round_q8(row);
    case Quant::q6: return round_q6(row);
    case Quant::q4: return round_q4(row);
  }
}

tests::RawTensor read_rounded(const format::ReleasedTensor& tensor, const base::File& file, Quant type) {
  const format::TensorSource source(tensor.view, file);
  std::vector<std::byte> bytes;
  source.read_rows(0, source.rows(), bytes);
  std::vector<float> values(source.rows() * source.cols());
  source.to_floats(bytes, 0, values);
  for (std::size_t at = 0; at < values.size(); at += source.cols())
    round_row(std::span(values).subspan(at, source.cols()), type);
  const auto raw = std::as_bytes(std::span(values));
  return {tensor.target.name, format::DType::f32, tensor.target.shape, std::string(base::as_text(raw))};
}

/// RELEASE with other values for embedding and routers, in f32.
void write_rounded(const fs::path& input, const fs::path& folder, Quant embedding, Quant router) {
  const auto release = format::open_released_model(input);
  std::vector<base::File> files;
  for (const auto& file : release.files) files.push_back(base::File::open_read(file));
  std::vector<tests::RawTensor> tensors;
  for (const auto& tensor : release.tensors) {
    const auto role = tensor.target.role;
    const Quant type = role == format::TensorRole::embedding ? embedding
                       : role == format::TensorRole::router  ? router
                                                             : Quant::bf16;
    tensors.push_back(read_rounded(tensor, files[tensor.view.file_index], type));
  }
  fs::create_directories(folder);
  base::write_file(folder / "consolidated.safetensors", base::as_bytes(tests::make_safetensors(tensors)));
  base::write_file(folder / "params.json", base::as_bytes(release.params_text));
  base::write_file(folder / "tokenizer.model", release.tokenizer);
}

Quant parse_type(const char* name) {
  if (const auto type = convert::parse_quant(name)) return *type;
  throw base::Error(base::ErrorKind::usage, std::string(name) + ": is no type");
}

int run(char** argv) {
  const fs::path work = argv[2];
  write_rounded(argv[1], work, parse_type(argv[7]), parse_type(argv[8]));
  convert::Request request;
  request.input = work;
  request.output = argv[3];
  request.types = convert::MatrixTypes{.experts = parse_type(argv[4]),
                                       .attention = parse_type(argv[5]),
                                       .head = parse_type(argv[6]),
                                       .tied_head = {}};
  request.quant = request.types->experts;
  base::NoProgress progress;
  static_cast<void>(convert::convert(request, progress, {}));
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 9) {
    std::fputs("usage: mixed_types RELEASE WORK OUTPUT EXPERTS ATTENTION HEAD EMBEDDING ROUTER\n", stderr);
    return 2;
  }
  try {
    return run(argv);
  } catch (const base::Error& error) {
    std::fprintf(stderr, "mixed_types: %s\n", error.what());
    return 1;
  }
}
