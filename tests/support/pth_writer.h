#pragma once
// Makes small .pth files with the bytes that torch.save writes (memoised protocol 2 pickle, data descriptors,
// 64-byte alignment by an "FB" extra field, zip64 end records), and such files with deliberate damage.
// Written from the format's description, without the reader's code.

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "format/tensor.h"

namespace sluice::tests {

/// One member of a zip file. The defaults are torch's; other values make files that a reader must refuse, and
/// forms that only files over 4 GiB have.
struct ZipPart {
  std::string name;
  std::string bytes;
  std::uint16_t flags = 0x0808;  ///< data descriptor, UTF-8; without bit 3 the sizes stand in the header
  std::uint16_t method = 0;
  bool zip64 = false;                              ///< zip64 fields even where they are not needed
  std::optional<std::uint32_t> crc32 = {};         ///< instead of the right one
  std::optional<std::string> local_name = {};      ///< instead of `name`, in the local header
  std::optional<std::uint64_t> length_bytes = {};  ///< instead of the right one, in the directory
  std::uint64_t hole_bytes = 0;                    ///< the payload is this many zeros, whose CRC is left out
};

/// A zip file. Without `zip64_end` it has only the classic end record.
[[nodiscard]] std::string make_zip(const std::vector<ZipPart>& parts, bool zip64_end = true);

/// Writes a zip file to disk as a sparse file, so that many GiB take no space.
void write_zip(const std::filesystem::path& path, const std::vector<ZipPart>& parts, bool zip64_end = true);

/// Writes a file without syncing it: tests write thousands of damaged files.
void write_plainly(const std::filesystem::path& path, std::string_view bytes);

/// A view into a storage of a state dict.
struct PthView {
  std::string name;
  format::DType dtype = format::DType::f32;
  std::string storage_key;
  std::uint64_t storage_elements = 0;
  std::uint64_t offset_elements = 0;
  format::Shape shape;
  std::vector<std::uint64_t> strides;
};

enum class StateDict : std::uint8_t {
  ordered,     ///< collections.OrderedDict
  plain,       ///< dict
  of_module,   ///< OrderedDict with _metadata, as nn.Module.state_dict() gives
  parameters,  ///< plain dict of nn.Parameter
};

/// data.pkl of a state dict.
[[nodiscard]] std::string make_pickle(const std::vector<PthView>& views, StateDict kind = StateDict::ordered);

/// A whole .pth file in memory.
class PthWriter final {
 public:
  explicit PthWriter(std::string top = "archive") : top_(std::move(top)) {}

  /// A row-major tensor with a storage of its own.
  PthWriter& add(std::string name, format::DType dtype, format::Shape shape, std::string_view bytes);
  /// A tensor that views its own storage with steps, from an offset on.
  PthWriter& add_strided(std::string name, format::DType dtype, format::Shape shape,
                         std::vector<std::uint64_t> strides, std::uint64_t offset_elements,
                         std::string_view bytes);
  /// A tensor over the storage of the tensor that was added last.
  PthWriter& add_view(std::string name, format::Shape shape, std::vector<std::uint64_t> strides,
                      std::uint64_t offset_elements);

  StateDict kind = StateDict::ordered;
  bool byteorder = false;  ///< newer torch writes this member

  [[nodiscard]] const std::vector<PthView>& views() const { return views_; }
  /// The members in torch's order, to be changed and given to make_zip.
  [[nodiscard]] std::vector<ZipPart> parts() const;
  [[nodiscard]] std::string to_bytes() const { return make_zip(parts()); }
  void write(const std::filesystem::path& path) const;

 private:
  std::string top_;
  std::vector<PthView> views_;
  std::vector<std::string> storages_;  ///< the key is the index
};

/// Strides of a row-major tensor.
[[nodiscard]] std::vector<std::uint64_t> row_major_strides(const format::Shape& shape);

}  // namespace sluice::tests
