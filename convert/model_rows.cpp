// The two sources of an export's values.
//
// A Release reads through format::TensorSource, as a conversion does. A Container verifies the digest of each
// tensor when it is opened and then decodes rows (PlainRows) or tiles (TileRows). Everything is read through
// file descriptors at explicit offsets, so all RowSources are thread-safe, and nothing is mapped except the
// container's directory: pages of a mapping would count as memory of this process.

#include "convert/model_rows.h"

#include <algorithm>
#include <array>
#include <map>

#include "base/error.h"
#include "base/file.h"
#include "base/invariant.h"
#include "base/merkle.h"
#include "convert/panel_decoder.h"
#include "convert/readiness.h"
#include "format/container_reader.h"
#include "format/released_model.h"

namespace sluice::convert {
namespace {

using format::ContainerTensor;
using format::DType;
using format::ModelTensor;

/// The narrowest type without blocks that holds all values of `dtype`: MXFP4 has two bits of fraction, and
/// bf16's range.
DType plain_type(DType dtype) { return dtype == DType::mxfp4 ? DType::bf16 : dtype; }

/// Stored rows are the bytes of the release in the model's order; decoding only widens them.
class ReleasedRows final : public RowSource {
 public:
  ReleasedRows(const format::TensorView& view, const base::File& file) : source_(view, file) {}

  std::uint64_t rows() const override { return source_.rows(); }
  std::uint64_t cols() const override { return source_.cols(); }
  std::uint64_t row_step() const override { return 1; }
  void read(std::uint64_t first, std::uint64_t count, std::vector<std::byte>& stored) const override {
    source_.read_rows(first, count, stored);
  }
  void decode(base::Bytes stored, std::uint64_t block_first, std::uint64_t, std::uint64_t first,
              std::span<float> out) const override {
    const std::uint64_t count = out.size() / cols();
    source_.to_floats(
        stored.subspan((first - block_first) * source_.row_bytes(), count * source_.row_bytes()), first, out);
  }

 private:
  format::TensorSource source_;
};

class Release final : public ModelRows {
 public:
  explicit Release(const std::filesystem::path& path) : release_(format::open_released_model(path)) {
    static_cast<void>(require_usable_tokenizer(release_));
    for (const auto& file : release_.files) files_.push_back(base::File::open_read(file));
    for (const auto& tensor : release_.tensors) views_[tensor.target.name] = &tensor.view;
  }

  const format::ModelDescription& description() const override { return release_.description; }
  std::uint64_t stored_bytes() const override {
    std::uint64_t bytes = 0;
    for (const base::File& file : files_) bytes += file.size_bytes();
    return bytes;
  }
  const std::string& params_text() const override { return release_.params_text; }
  format::TokenizerParts tokenizer() const override { return format::tokenizer_parts(release_); }
  format::ChatFiles chat_files() const override { return release_.chat; }
  std::string name() const override { return {}; }
  std::string licence() const override { return {}; }
  DType exact_dtype(const ModelTensor& tensor) const override {
    return plain_type(views_.at(tensor.name)->dtype);
  }
  std::unique_ptr<RowSource> open_tensor(const ModelTensor& tensor) const override {
    const format::TensorView& view = *views_.at(tensor.name);
    return std::make_unique<ReleasedRows>(view, files_[view.file_index]);
  }

 private:
  format::ReleasedModel release_;
  std::vector<base::File> files_;
  // The views point into release_, which must not change after construction.
  std::map<std::string, const format::TensorView*, std::less<>> views_;
};

/// A container's tensor in rows: norms, routers, the embedding.
class PlainRows final : public RowSource {
 public:
  PlainRows(const ContainerTensor& tensor, const base::File& file)
      : tensor_(tensor), file_(file), f32_(tensor.storage == format::Storage::f32_rows) {}

  std::uint64_t rows() const override { return tensor_.shape.size() == 2 ? tensor_.shape[0] : 1; }
  std::uint64_t cols() const override { return tensor_.shape.back(); }
  std::uint64_t row_step() const override { return 1; }
  void read(std::uint64_t first, std::uint64_t count, std::vector<std::byte>& stored) const override {
    stored.resize(static_cast<std::size_t>(count * row_bytes()));
    file_.read_exact_at(tensor_.offset_bytes + first * row_bytes(), stored);
  }
  void decode(base::Bytes stored, std::uint64_t block_first, std::uint64_t, std::uint64_t first,
              std::span<float> out) const override {
    const base::Bytes bytes = stored.subspan((first - block_first) * row_bytes());
    for (std::size_t i = 0; i < out.size(); ++i) {
      out[i] = f32_ ? base::load_le<float>(bytes, i * 4)
                    : format::bf16_to_f32(base::load_le<std::uint16_t>(bytes, i * 2));
    }
  }

 private:
  std::uint64_t row_bytes() const { return cols() * (f32_ ? 4 : 2); }

  const ContainerTensor& tensor_;
  const base::File& file_;
  bool f32_;
};

/// A container's tensor in tiles. A block takes one read for each of the five planes, whose bytes follow one
/// another in `stored`.
class TileRows final : public RowSource {
 public:
  TileRows(const ContainerTensor& tensor, const base::File& file)
      : tensor_(tensor), file_(file), layout_(tensor.tile_layout()) {
    const bool scaled = has_row_scales(layout_.type);
    // A plane that the type does not have has 0 bytes a panel, and is read and skipped like the others.
    planes_ = {Plane{0, layout_.panel_code_bytes},
               {layout_.exponents_offset_bytes, layout_.panel_exponent_bytes()},
               {layout_.magnitudes_offset_bytes, layout_.panel_magnitude_bytes()},
               {layout_.signs_offset_bytes, layout_.panel_sign_bytes()},
               {layout_.row_scales_offset_bytes, scaled ? format::kPanelRows * sizeof(float) : 0}};
  }

  std::uint64_t rows() const override { return layout_.rows; }
  std::uint64_t cols() const override { return layout_.cols; }
  std::uint64_t row_step() const override { return format::kPanelRows; }

  void read(std::uint64_t first, std::uint64_t count, std::vector<std::byte>& stored) const override {
    const std::uint64_t panel = first / format::kPanelRows;
    const std::uint64_t panels = base::divide_up(count, format::kPanelRows);
    std::uint64_t total_bytes = 0;
    for (const Plane& plane : planes_) total_bytes += panels * plane.panel_bytes;
    stored.resize(static_cast<std::size_t>(total_bytes));
    base::MutableBytes rest = stored;
    for (const Plane& plane : planes_) {
      const auto length = static_cast<std::size_t>(panels * plane.panel_bytes);
      file_.read_exact_at(tensor_.offset_bytes + plane.offset_bytes + panel * plane.panel_bytes,
                          rest.first(length));
      rest = rest.subspan(length);
    }
  }

  void decode(base::Bytes stored, std::uint64_t block_first, std::uint64_t block_rows, std::uint64_t first,
              std::span<float> out) const override {
    const std::uint64_t panels = base::divide_up(block_rows, format::kPanelRows);
    // `first` is at a panel's start, because ranges begin at multiples of row_step().
    const std::uint64_t panel = (first - block_first) / format::kPanelRows;
    std::array<base::Bytes, 5> parts;
    for (std::size_t i = 0; i < planes_.size(); ++i) {
      const std::uint64_t bytes = planes_[i].panel_bytes;
      parts[i] = stored.subspan(panel * bytes, bytes);
      stored = stored.subspan(panels * bytes);
    }
    decode_panel(layout_, {parts[0], parts[1], parts[2], parts[3], parts[4]}, out.size() / cols(), out);
  }

 private:
  struct Plane {
    std::uint64_t offset_bytes;  ///< in the matrix
    std::uint64_t panel_bytes;
  };

  const ContainerTensor& tensor_;
  const base::File& file_;
  format::TileLayout layout_;
  std::array<Plane, 5> planes_{};
};

/// The reader maps the file, but the payload is read through a descriptor: pages of a mapping would count as
/// memory of this process.
class Container final : public ModelRows {
 public:
  explicit Container(const std::filesystem::path& path)
      : reader_(format::ContainerReader::open(path)), file_(base::File::open_read(path)) {
    params_text_ = base::as_text(section("params.json"));
    // Verifies these sections, so that a damaged one is refused before anything is written.
    static_cast<void>(tokenizer());
    static_cast<void>(chat_files());
  }

  const format::ModelDescription& description() const override { return reader_.description(); }
  std::uint64_t stored_bytes() const override { return file_.size_bytes(); }
  const std::string& params_text() const override { return params_text_; }
  format::TokenizerParts tokenizer() const override { return format::tokenizer_parts(reader_); }
  format::ChatFiles chat_files() const override {
    const auto text = [&](std::string_view name) { return std::string(format::read_section(reader_, name)); };
    return {text(format::kTokenizerConfigSection), text(format::kGenerationConfigSection),
            text(format::kChatTemplateSection)};
  }
  std::string name() const override { return origin("release"); }
  std::string licence() const override { return origin("licence"); }

  DType exact_dtype(const ModelTensor& tensor) const override {
    const ContainerTensor& stored = *reader_.find(tensor.name);
    switch (stored.storage) {
      // Conversion has widened these values from their released type, so it holds them exactly.
      case format::Storage::f32_rows: return plain_type(stored.source_dtype);
      case format::Storage::bf16_rows:
      case format::Storage::bf16_tiles: return DType::bf16;
      case format::Storage::mx4_tiles: return plain_type(DType::mxfp4);
      case format::Storage::q8_tiles:
      case format::Storage::q6_tiles:
      // Integer times row scale: only f32 holds the product exactly.
      case format::Storage::q4_tiles: return DType::f32;
    }
    INVARIANT(!"a Storage without values");
  }

  std::unique_ptr<RowSource> open_tensor(const ModelTensor& tensor) const override {
    const ContainerTensor& stored = *reader_.find(tensor.name);
    // The digest is compared before anything is decoded: otherwise damaged weights would become a sound file
    // of wrong values.
    verify(stored);
    if (format::is_tiled(stored.storage)) return std::make_unique<TileRows>(stored, file_);
    return std::make_unique<PlainRows>(stored, file_);
  }

 private:
  base::Bytes section(std::string_view name) const {
    const format::ContainerSection* found = reader_.find_section(name);
    if (found == nullptr)
      base::throw_malformed(reader_.path().string(), "section '" + std::string(name) + "' is missing");
    if (!reader_.matches_digest(*found)) refuse("section '" + std::string(name) + "'");
    return reader_.bytes(*found);
  }

  void verify(const ContainerTensor& tensor) const {
    constexpr std::uint64_t kBlockBytes = 1u << 20;
    base::LeafHasher hasher;
    std::vector<std::byte> block;
    for (std::uint64_t done = 0; done < tensor.length_bytes; done += block.size()) {
      block.resize(static_cast<std::size_t>(std::min(kBlockBytes, tensor.length_bytes - done)));
      file_.read_exact_at(tensor.offset_bytes + done, block);
      hasher.update(block);
    }
    if (base::merkle_root(hasher.final()) != tensor.digest) refuse("tensor '" + tensor.name + "'");
  }

  [[noreturn]] void refuse(const std::string& what) const {
    throw base::Error(
        base::ErrorKind::verification,
        reader_.path().string() + ": " + what + " is not what its digest says (sluice verify shows where)");
  }

  std::string origin(std::string_view key) const {
    const format::Json* value = reader_.provenance().find(key);
    return value != nullptr && value->is_string() ? value->as_string(key) : std::string();
  }

  format::ContainerReader reader_;
  base::File file_;
  std::string params_text_;
};

}  // namespace

std::unique_ptr<ModelRows> ModelRows::open(const std::filesystem::path& path) {
  if (!std::filesystem::exists(path))
    throw base::Error(base::ErrorKind::usage, path.string() + ": no such file or folder");
  if (!std::filesystem::is_directory(path) && format::is_container(path))
    return std::make_unique<Container>(path);
  return std::make_unique<Release>(path);
}

}  // namespace sluice::convert
