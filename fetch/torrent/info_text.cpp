// Writes the info dictionary of v1 and hybrid torrents (BEP 3, BEP 47, BEP 52). The keys of each dictionary
// are appended by hand in sorted order, as bencode requires. The result must not change between versions: a
// new field would give every published release another info-hash.

#include "fetch/torrent/info_text.h"

#include <algorithm>
#include <map>
#include <span>
#include <utility>

#include "base/bytes.h"
#include "fetch/torrent/bencode.h"

namespace sluice::fetch {
namespace {

using format::ReleaseFile;
using format::ReleaseLayout;

struct Folder {
  std::map<std::string, Folder, std::less<>> children;  // sorted by bytes, as bencode requires
  const ReleaseFile* file = nullptr;
};

// The names have been checked, so no path is empty and no name is both a file and a folder.
Folder make_tree(const ReleaseLayout& layout) {
  Folder root;
  for (const ReleaseFile& file : layout.files) {
    if (file.pad) continue;
    Folder* folder = &root;
    for (std::size_t start = 0; start <= file.path.size();) {
      const std::size_t end = std::min(file.path.find('/', start), file.path.size());
      folder = &folder->children[file.path.substr(start, end - start)];
      start = end + 1;
    }
    folder->file = &file;
  }
  return root;
}

// A file is a dictionary with one empty key, whose value has the file's length and root (BEP 52).
void append_tree(std::string& out, const Folder& folder) {
  out += 'd';
  if (folder.file != nullptr) {
    out += "0:d";
    bencode::append(out, "length");
    bencode::append(out, folder.file->length_bytes);
    if (folder.file->root) {
      bencode::append(out, "pieces root");
      bencode::append(out, base::as_text(folder.file->root->bytes));
    }
    out += 'e';
  }
  for (const auto& [name, child] : folder.children) {
    bencode::append(out, name);
    append_tree(out, child);
  }
  out += 'e';
}

void append_v1_file(std::string& out, const ReleaseFile& file) {
  out += 'd';
  if (file.pad) {
    bencode::append(out, "attr");
    bencode::append(out, "p");
  }
  bencode::append(out, "length");
  bencode::append(out, file.length_bytes);
  bencode::append(out, "path");
  out += 'l';
  for (std::size_t start = 0; start <= file.path.size();) {
    const std::size_t end = std::min(file.path.find('/', start), file.path.size());
    bencode::append(out, std::string_view(file.path).substr(start, end - start));
    start = end + 1;
  }
  out += "ee";
}

}  // namespace

std::uint64_t choose_piece_bytes(std::uint64_t payload_bytes) {
  constexpr std::uint64_t kPiecesAimed = 24'000;
  std::uint64_t bytes = kPublishedPieceBytesMin;
  while (bytes < kPublishedPieceBytesMax && payload_bytes / bytes > kPiecesAimed) bytes *= 2;
  return bytes;
}

void add_pad_files(ReleaseLayout& layout) {
  std::vector<ReleaseFile> padded;
  for (ReleaseFile& file : layout.files) {
    const std::uint64_t length_bytes = file.length_bytes;
    const bool last = &file == &layout.files.back();
    padded.push_back(std::move(file));
    const std::uint64_t rest_bytes = base::align_up(length_bytes, layout.piece_bytes) - length_bytes;
    if (last || rest_bytes == 0) continue;  // padding at the end would only make the release larger
    ReleaseFile& pad = padded.emplace_back();
    // BEP 47 recommends this name, and programs that do not know pad files then collect them in one folder.
    pad.path = ".pad/" + std::to_string(rest_bytes);
    pad.length_bytes = rest_bytes;
    pad.pad = true;
  }
  layout.files = std::move(padded);
}

std::string to_info_text(const ReleaseLayout& layout) {
  const bool has_v2 =
      std::ranges::any_of(layout.files, [](const ReleaseFile& file) { return file.root.has_value(); });
  // In sorted order: file tree, files or length, meta version, name, piece length, pieces.
  std::string out = "d";
  if (has_v2) {
    bencode::append(out, "file tree");
    append_tree(out, make_tree(layout));
  }
  if (layout.single_file) {
    bencode::append(out, "length");
    bencode::append(out, layout.files.front().length_bytes);
  } else {
    bencode::append(out, "files");
    out += 'l';
    for (const ReleaseFile& file : layout.files) append_v1_file(out, file);
    out += 'e';
  }
  if (has_v2) {
    bencode::append(out, "meta version");
    bencode::append(out, std::uint64_t{2});
  }
  bencode::append(out, "name");
  bencode::append(out, layout.name);
  bencode::append(out, "piece length");
  bencode::append(out, layout.piece_bytes);
  bencode::append(out, "pieces");
  bencode::append(out, base::as_text(std::as_bytes(std::span(layout.v1_pieces))));
  return out += 'e';
}

}  // namespace sluice::fetch
