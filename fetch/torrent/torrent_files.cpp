// Reads the two file lists of an info dictionary: "files" or "length" of v1 (BEP 3, with the attributes of
// BEP 47) and "file tree" of v2 (BEP 52). The metadata come from strangers, so every name is checked before
// it is used, and the numbers of files and of path bytes are bounded. Only what careless makers write is
// corrected (name_cleaner.h); what could harm is refused.
//
// All functions are pure and may be called by any thread.

#include "fetch/torrent/torrent_files.h"

#include <algorithm>
#include <utility>

#include "base/bytes.h"
#include "base/text.h"

namespace sluice::fetch {
namespace {

using format::ReleaseFile;
using format::ReleaseLayout;

// Bounds the memory for paths: a few bytes of a file tree can place a file below a long path, and several
// copies of each path are held.
constexpr std::size_t kFilesMax = 1 << 18;
constexpr std::size_t kPathBytesMax = std::size_t{32} << 20;

constexpr std::uint64_t kStreamBytesMax = (std::uint64_t{1} << 48) - 1;  // lt::file_storage::max_file_offset

/// Collects the files of one list and enforces the limits.
class FileList {
 public:
  explicit FileList(const std::string& subject) : subject_(subject) {}

  ReleaseFile& add(std::string path) {
    path_bytes_ += path.size();
    if (files_.size() >= kFilesMax)
      base::throw_malformed(subject_, "has more than " + std::to_string(kFilesMax) + " files");
    if (path_bytes_ > kPathBytesMax)
      base::throw_malformed(subject_,
                            "has more than " + std::to_string(kPathBytesMax) + " bytes of file names");
    ReleaseFile& file = files_.emplace_back();
    file.path = std::move(path);
    return file;
  }

  [[nodiscard]] std::vector<ReleaseFile> take() { return std::move(files_); }

 private:
  const std::string& subject_;
  std::size_t path_bytes_ = 0;
  std::vector<ReleaseFile> files_;
};

/// Reads the attributes of BEP 47. Symbolic links are refused. 'x' (executable) and 'h' (hidden) are advice,
/// which is not followed: makers on Windows file systems set 'x' for every file, and a downloaded file is
/// never made executable.
bool is_pad(const Fields& file) {
  if (file.has("symlink path")) file.refuse("symlink path", "is not supported: the file is a symbolic link");
  if (!file.has("attr")) return false;
  const std::string_view attributes = file.string("attr");
  if (attributes.find('l') != attributes.npos)
    file.refuse("attr", "has 'l': symbolic links are not supported");
  return attributes.find('p') != attributes.npos;
}

// check_release_path() sees the joined path, in which a slash inside an element would look like a separator.
void check_element(std::string_view element, const std::string& subject) {
  if (element.find('/') != element.npos)
    base::throw_malformed(subject, "unsafe file name '" + base::to_printable(element) + "': has a slash");
}

std::string read_path(const Fields& file, NameCleaner& names) {
  const std::string key = file.utf8_key("path");
  const auto elements = file.list(key);
  std::string path;
  for (int i = 0; i < elements.list_size(); ++i) {
    const auto node = elements.list_at(i);
    if (node.type() != lt::bdecode_node::string_t) file.refuse(key, "has an element that is not a string");
    const std::string element = names.clean(to_view(node.string_value()));
    check_element(element, file.subject());
    if (i > 0) path += '/';
    path += element;
  }
  format::check_release_path(path, file.subject());
  return path;
}

std::vector<ReleaseFile> read_v1_files(const Fields& info, NameCleaner& names, const std::string& name) {
  if (!info.has("files") && !info.has("length"))
    base::throw_malformed(info.subject(), "expected one of the keys 'files' and 'length', found none");
  FileList files(info.subject());
  if (!info.has("files")) {
    files.add(name).length_bytes = info.number("length");
    // A pad file is never written, so such a torrent would be an empty release.
    if (is_pad(info)) info.refuse("attr", "makes the only file a pad file");
    return files.take();
  }
  const auto list = info.list("files");
  for (int i = 0; i < list.list_size(); ++i) {
    const Fields fields(list.list_at(i), info.subject() + ": file " + std::to_string(i));
    ReleaseFile& file = files.add(read_path(fields, names));
    file.length_bytes = fields.number("length");
    file.pad = is_pad(fields);
  }
  return files.take();
}

/// BEP 52: a dictionary per folder, in which the keys are names. A file is a dictionary with the single key
/// "", which no name can be.
class FileTree {
 public:
  FileTree(const Fields& info, NameCleaner& names) : info_(info), names_(names), files_(info.subject()) {}

  std::vector<ReleaseFile> read() {
    read_folder(info_.dictionary("file tree"), "");
    return files_.take();
  }

 private:
  /// The recursion is bounded by kDepthMax of the decoder.
  void read_folder(const lt::bdecode_node& folder, const std::string& prefix) {
    if (folder.dict_size() == 0) refuse(prefix, "is an empty folder");
    for (int i = 0; i < folder.dict_size(); ++i) {
      const auto [key, node] = folder.dict_at(i);
      const std::string element = names_.clean(to_view(key));
      check_element(element, info_.subject());
      const std::string path = prefix.empty() ? element : prefix + '/' + element;
      // Only the root of the tree can have an empty key here; below it such a dictionary is read as a file.
      if (element.empty()) refuse(prefix, "is both a file and a folder");
      format::check_release_path(path, info_.subject());
      if (node.type() != lt::bdecode_node::dict_t) refuse(path, "is not a dictionary");
      if (node.dict_find("")) {
        if (node.dict_size() != 1) refuse(path, "is both a file and a folder");
        read_file(node.dict_find(""), path);
      } else {
        read_folder(node, path);
      }
    }
  }

  void read_file(const lt::bdecode_node& node, const std::string& path) {
    const Fields fields(node, info_.subject() + ": file '" + path + "'");
    if (is_pad(fields)) fields.refuse("attr", "has 'p': a file tree has no pad files");
    ReleaseFile& file = files_.add(path);
    file.length_bytes = fields.number("length");
    if (file.length_bytes == 0) return;  // BEP 52: an empty file has no root
    const auto root = fields.string("pieces root");
    if (root.size() != base::Sha256::kBytes)
      fields.refuse("pieces root", "has " + std::to_string(root.size()) + " bytes, expected 32");
    std::ranges::copy(base::as_bytes(root), file.root.emplace().bytes.begin());
  }

  [[noreturn]] void refuse(const std::string& path, const std::string& why) const {
    base::throw_malformed(info_.subject(), "file tree: '" + base::to_printable(path) + "' " + why);
  }

  const Fields& info_;
  NameCleaner& names_;
  FileList files_;
};

/// BEP 52, "Upgrade path": the v1 list must have the files of the tree, and each must start at a piece
/// border.
void merge_tree(ReleaseLayout& layout, std::vector<ReleaseFile> tree, const std::string& subject) {
  // BEP 52 asks for the same files in the same order, so one walk compares both lists.
  auto in_tree = tree.begin();
  std::uint64_t offset_bytes = 0;
  for (ReleaseFile& file : layout.files) {
    if (!file.pad) {
      if (in_tree == tree.end() || in_tree->path != file.path || in_tree->length_bytes != file.length_bytes)
        base::throw_malformed(subject, "the v1 file list and the v2 file tree differ at '" + file.path + "'");
      if (file.length_bytes > 0 && offset_bytes % layout.piece_bytes != 0)
        base::throw_malformed(subject, "file '" + file.path + "' of a hybrid torrent starts at byte " +
                                           std::to_string(offset_bytes) + ", which is inside a piece");
      file.root = in_tree->root;
      ++in_tree;
    }
    offset_bytes += file.length_bytes;  // stream_bytes() has checked the sum
  }
  if (in_tree != tree.end())
    base::throw_malformed(subject, "the v1 file list lacks '" + in_tree->path + "' of the v2 file tree");
}

}  // namespace

std::uint64_t stream_bytes(const ReleaseLayout& layout, std::string_view subject) {
  std::uint64_t total = 0;
  for (const ReleaseFile& file : layout.files) {
    const auto sum = base::checked_add(total, file.length_bytes);
    if (!sum || *sum > kStreamBytesMax)
      base::throw_malformed(subject, "the files' lengths sum up to more than 2^48 bytes");
    total = *sum;
  }
  if (layout.payload_bytes() == 0) base::throw_malformed(subject, "holds no bytes");
  return total;
}

void read_files(const Fields& info, bool has_v1, bool has_v2, NameCleaner& names, ReleaseLayout& layout) {
  std::vector<ReleaseFile> tree;
  if (has_v2) tree = FileTree(info, names).read();
  if (!has_v1) {
    // BEP 52: a tree whose only entry is a file with the torrent's name is a single-file torrent.
    layout.single_file = tree.size() == 1 && tree.front().path == layout.name;
    layout.files = std::move(tree);
    static_cast<void>(stream_bytes(layout, info.subject()));
    return;
  }
  // libtorrent and others read "files" where a careless maker wrote both.
  layout.single_file = !info.has("files");
  if (info.has("files") && info.has("length"))
    layout.warnings.emplace_back("the torrent has both 'files' and 'length'; 'length' is ignored");
  layout.files = read_v1_files(info, names, layout.name);
  static_cast<void>(stream_bytes(layout, info.subject()));
  if (has_v2) merge_tree(layout, std::move(tree), info.subject());
}

}  // namespace sluice::fetch
