// Two independent things: the arithmetic of strided views (does a range of bytes touch an element, and which
// rows), and the maps of damaged files of each kind.
//
// The arithmetic works without enumerating elements, of which a tensor has up to 10^9: axes are sorted by
// their step, and because the index has checked that each step leads past everything inside it, the first
// index that can touch the range follows by division. The maps trust only what is outside the damage: a
// damaged header could assign bytes to the wrong tensors, which is worse than no assignment. A reader's
// Error{malformed} becomes the map's `problem`. Everything runs on the caller's thread.

#include "format/checkpoint_map.h"

#include <algorithm>
#include <array>

#include "base/error.h"
#include "base/file.h"
#include "base/text.h"
#include "format/checkpoint_kind.h"
#include "format/gguf/gguf.h"
#include "format/grok/grok_release.h"
#include "format/safetensors.h"
#include "format/zip_index.h"

namespace sluice::format {
namespace {

/// An axis of a view, with its stride in bytes.
struct Axis {
  std::uint64_t extent = 1;
  std::uint64_t step_bytes = 0;
};

/// Axes of more than one element, the longest steps first. Each step leads past everything that the later
/// axes touch, as the index has checked.
std::vector<Axis> axes_of(const CheckpointTensor& tensor, std::size_t first_axis) {
  std::vector<Axis> axes;
  for (std::size_t axis = first_axis; axis < tensor.shape.size(); ++axis) {
    if (tensor.shape[axis] != 1)
      axes.push_back({tensor.shape[axis], tensor.strides[axis] * size_bytes(tensor.dtype)});
  }
  std::ranges::sort(axes, std::greater{}, &Axis::step_bytes);
  return axes;
}

/// Bytes from the first byte of the first element to the last byte of the last one, along the axes after
/// `from`.
std::uint64_t span_bytes(const std::vector<Axis>& axes, std::size_t from, std::uint64_t item_bytes) {
  std::uint64_t span = item_bytes;
  for (std::size_t i = from; i < axes.size(); ++i) span += (axes[i].extent - 1) * axes[i].step_bytes;
  return span;
}

/// The first index along an axis whose elements, which span `inner_bytes`, end behind `begin_bytes`.
std::uint64_t first_index(std::uint64_t start_bytes, std::uint64_t inner_bytes, std::uint64_t step_bytes,
                          std::uint64_t begin_bytes) {
  const std::uint64_t end_bytes = start_bytes + inner_bytes;
  return begin_bytes < end_bytes ? 0 : (begin_bytes - end_bytes) / step_bytes + 1;
}

/// Descends from the longest step to the shortest. At each axis it moves to the first index whose elements
/// end behind `begin_bytes`; the cases that decide at once return, and only a range that begins inside of
/// that index goes one axis deeper.
bool touches(std::uint64_t start_bytes, const std::vector<Axis>& axes, std::uint64_t item_bytes,
             std::uint64_t begin_bytes, std::uint64_t end_bytes) {
  if (std::ranges::any_of(axes, [](const Axis& axis) { return axis.extent == 0; })) return false;
  for (std::size_t i = 0; i < axes.size(); ++i) {
    const std::uint64_t inner_bytes = span_bytes(axes, i + 1, item_bytes);
    const std::uint64_t index = first_index(start_bytes, inner_bytes, axes[i].step_bytes, begin_bytes);
    if (index >= axes[i].extent) return false;
    start_bytes += index * axes[i].step_bytes;
    if (start_bytes >= end_bytes) return false;
    if (start_bytes >= begin_bytes) return true;  // the first element at this index is inside the range
    // The range begins inside this index. If it reaches the next one, that one's first element is touched.
    if (index + 1 < axes[i].extent && start_bytes + axes[i].step_bytes < end_bytes) return true;
  }
  return start_bytes < end_bytes && start_bytes + item_bytes > begin_bytes;
}

/// The name of a zip member below the top folder of the archive.
std::string name_in_top(const ZipMember& member) {
  const std::size_t slash = member.name.find('/');
  return base::to_printable(slash == std::string::npos ? member.name : member.name.substr(slash + 1));
}

constexpr std::uint64_t kLocalHeaderBytes = 30;  // PKWARE APPNOTE 4.3.7

/// Cuts the whole file into named parts, from member to member in the order of the file.
std::vector<FilePart> parts_of(std::vector<ZipMember> members, std::uint64_t file_bytes) {
  std::ranges::sort(members, {}, &ZipMember::header_offset_bytes);
  std::vector<FilePart> parts;
  std::uint64_t at = 0;
  // Parts of no length are left out, and overlapping members of a damaged file do not make `at` go back.
  const auto add = [&](std::uint64_t end_bytes, std::string name, bool storage = false) {
    if (end_bytes > at) parts.push_back({at, end_bytes - at, std::move(name), storage});
    at = std::max(at, end_bytes);
  };
  for (const ZipMember& member : members) {
    const std::string name = name_in_top(member);
    const bool storage = name.starts_with("data/");
    add(member.header_offset_bytes + kLocalHeaderBytes + member.name.size(), "zip header of " + name);
    add(member.offset_bytes, "padding");
    add(member.offset_bytes + member.length_bytes,
        storage ? "storage " + name : (name.ends_with(".pkl") ? "pickle " : "member ") + name, storage);
    add(member.end_offset_bytes, "zip data descriptor of " + name);
  }
  add(file_bytes, "zip directory");
  return parts;
}

/// True when the pickle can be trusted: it has a checksum, which read_zip_member() verifies, or no known
/// damage.
bool is_sound(const ZipMember& pickle, const IsDamaged& is_damaged) {
  return pickle.crc32 != 0 || !is_damaged(pickle.offset_bytes, pickle.length_bytes);
}

/// The head of a file and the tensor data behind it. The file may end within either.
std::vector<FilePart> parts_around_data(std::uint64_t data_offset_bytes, std::string head,
                                        std::uint64_t file_bytes) {
  const std::uint64_t head_bytes = std::min(data_offset_bytes, file_bytes);
  std::vector<FilePart> parts{{0, head_bytes, std::move(head), false}};
  if (file_bytes > head_bytes) parts.push_back({head_bytes, file_bytes - head_bytes, "tensor data", true});
  return parts;
}

/// Turns a tensor of quantized blocks, which have no separate elements, into rows of bytes. Only rows are
/// named for damage, and a row is a whole number of blocks.
CheckpointTensor as_bytes(CheckpointTensor tensor) {
  if (block_weights(tensor.dtype) == 1) return tensor;
  const std::uint64_t cols = tensor.shape.back();
  tensor.shape.back() = stored_bytes(tensor.dtype, cols);
  for (std::size_t axis = 0; axis + 1 < tensor.strides.size(); ++axis)
    tensor.strides[axis] = stored_bytes(tensor.dtype, tensor.strides[axis]);
  tensor.dtype = DType::u8;
  return tensor;
}

CheckpointMap map_damaged_safetensors(const std::filesystem::path& path, const IsDamaged& is_damaged) {
  const auto file = base::File::open_read(path);
  const std::string head = read_head(file);
  CheckpointMap map;
  try {
    map.tensors = read_damaged_safetensors(path).tensors;
  } catch (const base::Error& error) {
    if (error.kind() != base::ErrorKind::malformed) throw;
    map.problem = std::string("which tensors it touches is not known: ") + error.what();
    return map;
  }
  constexpr std::uint64_t kLengthBytes = sizeof(std::uint64_t);
  // The header has been read successfully, so its length is plausible even if it is damaged.
  const auto header_bytes = base::load_le<std::uint64_t>(base::as_bytes(head));
  map.parts = {{0, kLengthBytes, "length of the safetensors header", false},
               {kLengthBytes, header_bytes, "safetensors header", false}};
  const std::uint64_t data_offset_bytes = kLengthBytes + header_bytes;
  if (file.size_bytes() > data_offset_bytes)
    map.parts.push_back({data_offset_bytes, file.size_bytes() - data_offset_bytes, "tensor data", true});
  // Well-formed JSON is not proof: a changed digit in an offset moves a tensor.
  if (is_damaged(0, data_offset_bytes)) {
    map.tensors.clear();
    map.problem = "which tensors it touches is not known: the header, which says so, is damaged";
  }
  return map;
}

CheckpointMap map_damaged_gguf(const std::filesystem::path& path, const IsDamaged& is_damaged) {
  const auto file = base::File::open_read(path);
  CheckpointMap map;
  try {
    const DamagedGguf gguf = read_damaged_gguf(path);
    map.parts = parts_around_data(gguf.data_offset_bytes, "GGUF head", file.size_bytes());
    if (is_damaged(0, gguf.data_offset_bytes)) {
      map.problem = "which tensors it touches is not known: the head, which says so, is damaged";
    } else {
      for (const CheckpointTensor& tensor : gguf.checkpoint.tensors) map.tensors.push_back(as_bytes(tensor));
    }
  } catch (const base::Error& error) {
    if (error.kind() != base::ErrorKind::malformed) throw;
    map.problem = std::string("which tensors it touches is not known: ") + error.what();
  }
  return map;
}

CheckpointMap map_damaged_pickle(const std::filesystem::path& path, const IsDamaged& is_damaged) {
  const auto file = base::File::open_read(path);
  CheckpointMap map;
  try {
    map.tensors = open_pickle(path).tensors;
  } catch (const base::Error& error) {
    if (error.kind() != base::ErrorKind::malformed) throw;
    map.problem = std::string("which tensors it touches is not known: ") + error.what();
    return map;
  }
  std::ranges::sort(map.tensors, {}, &CheckpointTensor::offset_bytes);
  std::uint64_t at = 0;
  bool damaged = false;
  const auto add_opcodes = [&](std::uint64_t end_bytes) {
    map.parts.push_back({at, end_bytes - at, "opcodes of the pickle", false});
    damaged |= is_damaged(at, end_bytes - at);
  };
  for (const CheckpointTensor& tensor : map.tensors) {
    add_opcodes(tensor.offset_bytes);
    map.parts.push_back({tensor.offset_bytes, tensor.extent_bytes, "tensor data", true});
    at = tensor.offset_bytes + tensor.extent_bytes;
  }
  add_opcodes(file.size_bytes());
  if (damaged) {
    map.tensors.clear();
    map.problem = "which tensors it touches is not known: the opcodes, which say so, are damaged";
  }
  return map;
}

}  // namespace

bool touches(const CheckpointTensor& tensor, std::uint64_t begin_bytes, std::uint64_t end_bytes) {
  if (begin_bytes >= end_bytes) return false;
  return touches(tensor.offset_bytes, axes_of(tensor, 0), size_bytes(tensor.dtype), begin_bytes, end_bytes);
}

std::optional<RowSpan> touched_rows(const CheckpointTensor& tensor, std::uint64_t begin_bytes,
                                    std::uint64_t end_bytes) {
  if (tensor.shape.size() < 2 || !touches(tensor, begin_bytes, end_bytes)) return std::nullopt;
  if (tensor.shape[0] == 1) return RowSpan{0, 0};
  const std::uint64_t item_bytes = size_bytes(tensor.dtype);
  const std::vector<Axis> inner = axes_of(tensor, 1);
  const std::uint64_t inner_bytes = span_bytes(inner, 0, item_bytes);
  const std::uint64_t step_bytes = tensor.strides[0] * item_bytes;
  // Rows of a transposed tensor interleave; the damage touches parts of many, so none is named.
  if (step_bytes < inner_bytes) return std::nullopt;
  RowSpan rows{first_index(tensor.offset_bytes, inner_bytes, step_bytes, begin_bytes),
               std::min(tensor.shape[0], (end_bytes - tensor.offset_bytes - 1) / step_bytes + 1) - 1};
  // The range may begin in a gap behind the last element of the first row.
  if (!touches(tensor.offset_bytes + rows.first * step_bytes, inner, item_bytes, begin_bytes, end_bytes))
    ++rows.first;
  return rows;
}

std::optional<CheckpointMap> map_damaged_pth(const std::filesystem::path& path, const IsDamaged& is_damaged) {
  const auto file = base::File::open_read(path);
  std::array<std::byte, 4> magic{};
  // A file whose directory is unreadable still counts as .pth if it begins like one; otherwise it is of
  // unknown kind.
  const bool zip_start = file.read_at(0, magic) == magic.size() && base::as_text(magic) == "PK\x03\x04";
  CheckpointMap map;
  std::vector<ZipMember> members;
  try {
    members = read_zip_outline(file);
    map.parts = parts_of(members, file.size_bytes());
  } catch (const base::Error& error) {
    if (error.kind() != base::ErrorKind::malformed) throw;
    if (!zip_start) return std::nullopt;
    map.problem = std::string("which tensors it touches is not known: ") + error.what();
    return map;
  }
  const auto pickle = std::ranges::find_if(
      members, [](const ZipMember& member) { return member.name.ends_with("/data.pkl"); });
  if (pickle == members.end()) {
    map.problem = "which tensors it touches is not known: the zip directory names no data.pkl";
    return map;
  }
  if (!is_sound(*pickle, is_damaged)) {
    map.problem = "which tensors it touches is not known: data.pkl, which says so, is damaged";
    return map;
  }
  try {
    map.tensors = read_damaged_pth(path, members).tensors;
  } catch (const base::Error& error) {
    if (error.kind() != base::ErrorKind::malformed) throw;
    map.problem = std::string("which tensors it touches is not known: ") + error.what();
  }
  return map;
}

std::optional<CheckpointMap> map_damaged_checkpoint(const std::filesystem::path& path,
                                                    const IsDamaged& is_damaged) {
  switch (recognise_checkpoint(path).value_or(CheckpointKind::pth)) {
    case CheckpointKind::pth: break;  // a damaged one is known by the directory at its end, too
    case CheckpointKind::safetensors: return map_damaged_safetensors(path, is_damaged);
    case CheckpointKind::gguf: return map_damaged_gguf(path, is_damaged);
    case CheckpointKind::pickle: return map_damaged_pickle(path, is_damaged);
  }
  return map_damaged_pth(path, is_damaged);
}

}  // namespace sluice::format
