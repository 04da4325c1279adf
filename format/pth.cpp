// Reads torch's zip files (.pth, .pt): finds the members under their one top folder, checks version and byte
// order, reads data.pkl as data (pickle.h), and turns each pickled view into a byte range of the file.
//
// read() is strict and is the only way to load; read_damaged() serves the naming of damage and takes the
// members as the zip directory gives them. A view is accepted only if it lies inside its storage and no two
// of its elements share a place. When a file is refused, the message adds what its pickles would have
// executed (checkpoint_scan.h). Runs on the caller's thread.

#include <algorithm>
#include <map>
#include <optional>
#include <string>

#include "base/bytes.h"
#include "base/error.h"
#include "base/file.h"
#include "base/text.h"
#include "format/checkpoint_index.h"
#include "format/checkpoint_kind.h"
#include "format/checkpoint_scan.h"
#include "format/pickle.h"
#include "format/zip_index.h"

namespace sluice::format {
namespace {

using base::checked_add;
using base::checked_mul;

// Far above any state dict, whose pickle has names, shapes and strides only.
constexpr std::uint64_t kPickleBytesMax = 16u << 20;
constexpr std::uint64_t kSmallRecordBytesMax = 64;
constexpr std::size_t kNameBytesMax = 512;
constexpr std::uint64_t kTorchVersionMax = 10;  // caffe2/serialize/versions.h: kMaxSupportedFileFormatVersion

/// Checks the magic first, so that a web page or an archive of another kind gets its own message.
void require_zip(const base::File& file) {
  const std::string head = read_head(file);
  const std::string subject = file.path().string();
  if (is_zip(head)) return;
  if (head.empty()) base::throw_malformed(subject, "is empty");
  if (const auto what = describe_lookalike(head); !what.empty()) base::throw_malformed(subject, what);
  if (looks_like_safetensors(head)) {
    base::throw_malformed(subject, "looks like a safetensors file, not a torch zip file");
  }
  base::throw_malformed(subject, "is not a torch zip file: it does not begin with 'PK\\x03\\x04'");
}

/// Elements from the first to the last one of the view; nothing when two of its elements share a place.
std::optional<std::uint64_t> span_elements(const Shape& shape, const std::vector<std::uint64_t>& strides) {
  std::vector<std::size_t> axes;
  for (std::size_t axis = 0; axis < shape.size(); ++axis) {
    if (shape[axis] == 0) return 0;
    if (shape[axis] > 1) axes.push_back(axis);
  }
  // From the innermost axis outwards, each step must lead past everything that the axes inside it touch.
  // Slices, transposed tensors and splits all fulfil this.
  std::ranges::sort(axes, {}, [&](std::size_t axis) { return strides[axis]; });
  std::uint64_t span = 1;
  for (const std::size_t axis : axes) {
    if (strides[axis] < span) return std::nullopt;
    const auto reach = checked_mul(strides[axis], shape[axis] - 1);
    const auto sum = reach ? checked_add(*reach, span) : std::nullopt;
    if (!sum) return std::nullopt;
    span = *sum;
  }
  return span;
}

class PthReader final {
 public:
  explicit PthReader(const std::filesystem::path& path)
      : file_(base::File::open_read(path)), subject_(path.string()) {}

  [[nodiscard]] CheckpointIndex read() {
    require_zip(file_);
    sort_members(read_zip_index(file_));
    check_version();
    check_byteorder();
    return read_tensors();
  }

  /// No check of version and byte order: their members may be what is damaged.
  [[nodiscard]] CheckpointIndex read_damaged(std::vector<ZipMember> members) {
    sort_members(std::move(members));
    return read_tensors();
  }

 private:
  [[nodiscard]] CheckpointIndex read_tensors() {
    CheckpointIndex index;
    index.kind = CheckpointKind::pth;
    index.files.push_back(file_.path());
    const auto pickle = read_zip_member(file_, member("data.pkl"), kPickleBytesMax);
    for (const PickledTensor& tensor : read_state_dict(pickle, subject_ + ": data.pkl")) {
      index.tensors.push_back(place(tensor));
    }
    std::ranges::sort(index.tensors, {}, &CheckpointTensor::name);
    return index;
  }

  [[noreturn]] void refuse(const std::string& cause) const { base::throw_malformed(subject_, cause); }

  /// Checks that all members lie in one top folder, and stores them under their names in it.
  void sort_members(std::vector<ZipMember> members) {
    if (members.empty()) refuse("is an empty zip archive");
    const std::string& first = members.front().name;
    const std::size_t slash = first.find('/');
    if (slash == 0 || slash == std::string::npos) {
      refuse("zip member '" + base::to_printable(first) + "' is in no folder: not a torch file");
    }
    const std::string top = first.substr(0, slash + 1);
    for (ZipMember& member : members) {
      if (!member.name.starts_with(top)) {
        refuse("zip member '" + base::to_printable(member.name) + "' is outside the folder '" +
               base::to_printable(top) + "'");
      }
      std::string name = member.name.substr(top.size());
      members_.emplace(std::move(name), std::move(member));
    }
    if (members_.contains("constants.pkl")) refuse("is a TorchScript program, not a state dict");
    if (!members_.contains("data.pkl")) refuse("has no member 'data.pkl': not a torch file");
    for (const auto& [name, member] : members_) {
      // Other members (code, constants, extra files) belong to programs, not to a plain state dict.
      const bool known = name == "data.pkl" || name == "version" || name == "byteorder" ||
                         name.starts_with("data/") || name == ".data/serialization_id" ||
                         name == ".format_version" || name == ".storage_alignment";
      if (!known)
        refuse("zip member '" + base::to_printable(member.name) + "' does not occur in a plain torch file");
    }
  }

  [[nodiscard]] const ZipMember& member(std::string_view name) const {
    const auto found = members_.find(name);
    if (found == members_.end()) refuse("has no member '" + std::string(name) + "'");
    return found->second;
  }

  [[nodiscard]] std::string read_text(std::string_view name) const {
    const auto bytes = read_zip_member(file_, member(name), kSmallRecordBytesMax);
    std::string text(base::as_text(bytes));
    while (text.ends_with('\n')) text.pop_back();
    return text;
  }

  void check_version() const {
    const std::string text = read_text("version");
    for (std::uint64_t version = 1; version <= kTorchVersionMax; ++version) {
      if (text == std::to_string(version)) return;
    }
    refuse("is of torch's file version '" + base::to_printable(text) + "', expected 1 to " +
           std::to_string(kTorchVersionMax));
  }

  void check_byteorder() const {
    if (!members_.contains("byteorder")) return;  // older files, all little-endian
    const std::string text = read_text("byteorder");
    if (text != "little") refuse("has the byte order '" + base::to_printable(text) + "', expected 'little'");
  }

  /// Checks that the view lies in its storage, and turns it into a byte range of the file.
  [[nodiscard]] CheckpointTensor place(const PickledTensor& tensor) const {
    const std::string name = base::to_printable(tensor.name);
    const auto refuse_tensor = [&](const std::string& cause) { refuse("tensor '" + name + "': " + cause); };
    if (tensor.name.empty() || tensor.name.size() > kNameBytesMax || name != tensor.name) {
      refuse_tensor("is not a proper name");
    }
    const auto storage = members_.find("data/" + tensor.storage_key);
    if (storage == members_.end()) refuse_tensor("its storage 'data/" + tensor.storage_key + "' is missing");
    const std::uint64_t item_bytes = size_bytes(tensor.dtype);
    const std::uint64_t storage_bytes = storage->second.length_bytes;
    // The pickle and the zip directory state the length of a storage independently; both must agree.
    if (checked_mul(tensor.storage_elements, item_bytes) != storage_bytes) {
      refuse_tensor("its storage 'data/" + tensor.storage_key + "' has " + std::to_string(storage_bytes) +
                    " bytes, expected " + std::to_string(tensor.storage_elements) + " x " +
                    std::string(to_string(tensor.dtype)));
    }
    const auto count = element_count(tensor.shape);
    const auto span = span_elements(tensor.shape, tensor.strides);
    if (!count || !span) {
      refuse_tensor("shape " + to_string(tensor.shape) + " with strides " + to_string(tensor.strides) +
                    " is too large or overlaps itself");
    }
    const auto end = checked_add(tensor.offset_elements, *span);
    if (!end || *end > tensor.storage_elements) {
      refuse_tensor("shape " + to_string(tensor.shape) + " with strides " + to_string(tensor.strides) +
                    " at element " + std::to_string(tensor.offset_elements) + " overruns its storage of " +
                    std::to_string(tensor.storage_elements) + " elements");
    }
    return CheckpointTensor{
        .name = tensor.name,
        .dtype = tensor.dtype,
        .shape = tensor.shape,
        .strides = tensor.strides,
        .file_index = 0,
        .offset_bytes = storage->second.offset_bytes + tensor.offset_elements * item_bytes,
        .extent_bytes = *span * item_bytes};
  }

  base::File file_;
  std::string subject_;
  std::map<std::string, ZipMember, std::less<>> members_;
};

}  // namespace

CheckpointIndex open_pth(const std::filesystem::path& path) {
  try {
    return PthReader(path).read();
  } catch (const base::Error& error) {
    if (error.kind() != base::ErrorKind::malformed) throw;
    // The scan reads the file again, because the strict reader may have stopped before it saw any pickle.
    const std::string acts = to_sentence(scan_pickles(path, PickleSearch::directory));
    if (acts.empty()) throw;
    throw base::Error(base::ErrorKind::malformed,
                      std::string(error.what()) + "; " + acts + "; nothing of it was executed");
  }
}

CheckpointIndex read_damaged_pth(const std::filesystem::path& path, const std::vector<ZipMember>& members) {
  return PthReader(path).read_damaged(members);
}

}  // namespace sluice::format
