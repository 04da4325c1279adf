// Publishes a folder: lists its files, hashes every byte once (with a pool of threads), and writes the
// .torrent, manifest, SHA256SUMS and, on request, leaves. The output is deterministic, because it depends on
// names and bytes of the files alone: whoever publishes the same folder gets the same info-hash, and joins
// the same swarm.
//
// The .torrent is parsed again by the reader that fetch uses before anything is written, so that a release
// that cannot be fetched is not published.
//
// Invariant: nothing is written into the folder that is published.

#include <algorithm>
#include <bit>
#include <functional>
#include <optional>
#include <system_error>
#include <utility>

#include "base/ascii.h"
#include "base/error.h"
#include "base/file.h"
#include "base/invariant.h"
#include "base/merkle.h"
#include "base/multi_digest.h"
#include "base/output.h"
#include "fetch/fetch.h"
#include "fetch/net/address.h"
#include "fetch/torrent/info_text.h"
#include "fetch/torrent/torrent_file.h"
#include "format/leaf_file.h"

namespace sluice::fetch {
namespace {

namespace fs = std::filesystem;
using format::ReleaseFile;
using format::ReleaseLayout;

constexpr std::uint64_t kPieceCountMax = 1 << 21;  // what libtorrent 2.0 loads by default

[[noreturn]] void throw_usage(const std::string& message) {
  throw base::Error(base::ErrorKind::usage, message);
}

/// An absolute path without "." and ".."; its last element is the name of the release.
fs::path to_source(const fs::path& path) {
  fs::path source = fs::absolute(path).lexically_normal();
  if (source.filename().empty()) source = source.parent_path();
  return source;
}

void add_entry(const fs::directory_entry& entry, const fs::path& root, ReleaseLayout& layout) {
  // symlink_status() and not status(): what a link leads to may lie outside of the folder, and a torrent has
  // no place for links here (BEP 47 has one, which fetch refuses).
  const auto status = entry.symlink_status();
  const std::string path = entry.path().lexically_relative(root).generic_string();
  if (fs::is_directory(status)) return;
  if (fs::is_symlink(status))
    base::throw_malformed(entry.path().string(), "is a symbolic link, which cannot be published");
  if (!fs::is_regular_file(status)) base::throw_malformed(entry.path().string(), "is not a regular file");
  ReleaseFile& file = layout.files.emplace_back();
  file.path = path;
  file.length_bytes = entry.file_size();
}

/// The order of BEP 52's file tree: paths compare element by element, and elements by bytes.
bool in_tree_order(const ReleaseFile& a, const ReleaseFile& b) {
  return std::ranges::lexicographical_compare(
      fs::path(a.path), fs::path(b.path),
      [](const fs::path& x, const fs::path& y) { return x.native() < y.native(); });
}

ReleaseLayout list_files(const fs::path& source) {
  ReleaseLayout layout;
  layout.name = source.filename().string();
  const auto status = fs::symlink_status(source);
  if (!fs::exists(status)) throw base::Error(base::ErrorKind::io, source.string() + ": does not exist");
  if (!fs::is_directory(status)) {
    layout.single_file = true;
    add_entry(fs::directory_entry(source), source.parent_path(), layout);
  } else {
    const fs::path own = source / ".sluice";  // our own files, when the folder was fetched into itself
    for (auto it = fs::recursive_directory_iterator(source); it != fs::recursive_directory_iterator(); ++it) {
      if (it->path() == own) {
        it.disable_recursion_pending();
        continue;
      }
      add_entry(*it, source, layout);
    }
  }
  // The directory's own order differs between file systems, and the info-hash depends on the order.
  std::ranges::sort(layout.files, in_tree_order);
  format::check_release_names(layout, source.string());
  format::check_portable_names(layout, source.string());
  if (layout.payload_bytes() == 0) base::throw_malformed(source.string(), "holds no bytes to publish");
  return layout;
}

void choose_pieces(const PublishRequest& request, ReleaseLayout& layout) {
  layout.piece_bytes =
      request.piece_bytes == 0 ? choose_piece_bytes(layout.payload_bytes()) : request.piece_bytes;
  if (!std::has_single_bit(layout.piece_bytes) || layout.piece_bytes < kPublishedPieceBytesMin ||
      layout.piece_bytes > kPublishedPieceBytesMax)
    throw_usage("piece size " + std::to_string(layout.piece_bytes) +
                ": expected a power of two from 16 KiB to 16 MiB");
  std::uint64_t count = 0;  // slightly too high for a v1 torrent, in which files share pieces
  for (const ReleaseFile& file : layout.files)
    count += base::divide_up(file.length_bytes, layout.piece_bytes);
  if (count > kPieceCountMax)
    throw_usage("piece size " + std::to_string(layout.piece_bytes) + ": gives " + std::to_string(count) +
                " pieces, which many clients cannot load; expected at least " +
                std::to_string(choose_piece_bytes(layout.payload_bytes())));
}

/// Computes the digests of files and pieces in one pass.
base::StreamDigests read_release(const PublishRequest& request, const fs::path& source,
                                 const ReleaseLayout& layout, base::Progress& progress,
                                 const std::stop_token& stop) {
  std::vector<base::DigestInput> inputs;
  inputs.reserve(layout.files.size());
  const fs::path folder = layout.single_file ? source.parent_path() : source;
  for (const ReleaseFile& file : layout.files)
    // An empty path stands for zeros: pad files are part of the stream of a v1 torrent, but are not on the
    // disk.
    inputs.push_back({.path = file.pad ? fs::path() : folder / file.path, .length_bytes = file.length_bytes});
  // One pass computes three kinds of digests: SHA-1 of the pieces for v1, BEP 52 leaves or layers for v2, and
  // SHA-256 of each file for SHA256SUMS and the manifest, which can be verified without BitTorrent.
  base::DigestWants wants;
  wants.sha256 = true;
  wants.leaves = !request.v1_only;
  // Without leaves only the piece layer is kept: 32 bytes per piece instead of 32 per block.
  if (!request.leaves) wants.blocks_per_node = layout.piece_bytes / base::kMerkleBlockBytes;
  wants.v1_piece_bytes = layout.piece_bytes;
  base::DigestOptions options;
  options.thread_count = request.thread_count;
  progress.begin("hashing", layout.payload_bytes());
  base::StreamDigests digests = base::compute_digests(inputs, wants, options, progress, stop);
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    // A file that changed during the read has no consistent digest, and must not be published.
    if (digests.files[i].state == base::ReadState::complete) continue;
    const std::string& problem = digests.files[i].problem;
    throw base::Error(base::ErrorKind::io, inputs[i].path.string() + ": " +
                                               (problem.empty() ? "it changed while it was read" : problem));
  }
  return digests;
}

void take_digests(base::StreamDigests& digests, bool v1_only, ReleaseLayout& layout) {
  layout.v1_pieces.reserve(digests.v1_pieces.size());
  for (const auto& piece : digests.v1_pieces) {
    INVARIANT(piece.has_value());
    layout.v1_pieces.push_back(*piece);
  }
  if (v1_only) return;
  // The layer of pieces lies `height` levels above the leaves. merkle_root() needs the number to fill up the
  // layer with roots of subtrees of that height, as BEP 52 asks.
  const std::uint64_t blocks_per_piece = layout.piece_bytes / base::kMerkleBlockBytes;
  const auto height = static_cast<unsigned>(std::countr_zero(blocks_per_piece));
  for (std::size_t i = 0; i < layout.files.size(); ++i) {
    ReleaseFile& file = layout.files[i];
    if (file.pad || file.length_bytes == 0) continue;
    // BEP 52: a file of at most one piece has a root and no layer.
    if (file.length_bytes <= layout.piece_bytes) {
      file.root = base::merkle_root(digests.files[i].leaves);
      continue;
    }
    file.piece_layer = digests.files[i].layer.empty()
                           ? base::merkle_layer(digests.files[i].leaves, blocks_per_piece)
                           : std::move(digests.files[i].layer);
    file.root = base::merkle_root(file.piece_layer, height);
  }
}

void write_leaves(const fs::path& path, base::StreamDigests& digests, const ReleaseLayout& layout) {
  ReleaseLayout with_leaves;
  for (std::size_t i = 0; i < layout.files.size(); ++i) {
    ReleaseFile& file = with_leaves.files.emplace_back();
    file.root = layout.files[i].root;
    file.leaves = std::move(digests.files[i].leaves);
  }
  format::write_leaf_file(path, with_leaves);
}

format::Manifest make_manifest(const PublishRequest& request, const ReleaseLayout& layout,
                               const base::StreamDigests& digests) {
  format::Manifest manifest = request.facts;
  manifest.name = format::to_release_name(layout.name);
  manifest.torrent_name = layout.name;
  manifest.infohash_v1 = layout.infohash_v1;
  manifest.infohash_v2 = layout.infohash_v2;
  manifest.trackers = request.trackers;
  for (std::size_t i = 0; i < layout.files.size(); ++i) {
    const ReleaseFile& file = layout.files[i];
    if (file.pad) continue;
    format::ManifestFile& out = manifest.files.emplace_back();
    out.path = file.path;
    out.length_bytes = file.length_bytes;
    out.sha256 = digests.files[i].sha256;
    out.root = file.root;
  }
  return manifest;
}

/// The path of the .torrent. It must not be inside the folder, because publishing would then change the
/// release.
fs::path choose_torrent(const PublishRequest& request, const fs::path& source) {
  const std::string name = source.filename().string() + ".torrent";
  const fs::path output = request.torrent.empty()
                              ? fs::path(source.string() + ".torrent")
                              : to_source(base::output_path(request.torrent.string(), name));
  // Both paths are made canonical, because a symbolic link could lead back into the folder.
  const fs::path inside = fs::weakly_canonical(output).lexically_relative(fs::canonical(source));
  if (fs::is_directory(source) && !inside.empty() && *inside.begin() != "..")
    throw_usage(output.string() + ": lies inside the folder that is published");
  return output;
}

/// Says why a file is not of the kind that `read` reads.
template <typename F>
std::string problem_of(const char* kind, F read) {
  try {
    return read() ? "" : "is " + std::string(kind) + " of another release";
  } catch (const base::Error&) {
    return "is not " + std::string(kind);
  }
}

PublishOutputs outputs_of(const PublishRequest& request, const fs::path& source) {
  PublishOutputs outputs;
  outputs.torrent = choose_torrent(request, source);
  fs::path stem = outputs.torrent;
  if (stem.extension() == ".torrent") stem.replace_extension();
  outputs.manifest = stem.string() + ".manifest.json";
  outputs.sums = stem.string() + ".SHA256SUMS";
  if (request.leaves) outputs.leaves = stem.string() + ".leaves";
  return outputs;
}

/// What can be said before the release is read: outputs that are of another kind, or of another release.
void require_outputs(const PublishRequest& request, const fs::path& source, const PublishOutputs& outputs) {
  const base::InputFiles inputs{source};
  const auto require = [&](const fs::path& path, std::function<std::string(const fs::path&)> problem) {
    base::require_output(path,
                         {.inputs = inputs, .problem = std::move(problem), .overwrite = request.overwrite});
  };
  const std::string name = source.filename().string();
  require(outputs.torrent, [&](const fs::path& path) {
    return problem_of("a torrent", [&] { return read_torrent(path).name == name; });
  });
  require(outputs.manifest, [&](const fs::path& path) {
    return problem_of("a manifest", [&] { return format::read_manifest(path).torrent_name == name; });
  });
  require(outputs.sums, [&](const fs::path& path) {
    return problem_of("a checksum list", [&] {
      if (format::parse_sums(base::read_text_file(path), path.string()).files.empty())
        base::throw_malformed(path.string(), "holds no checksums");
      return true;
    });
  });
  if (!outputs.leaves.empty())
    require(outputs.leaves, [&](const fs::path& path) {
      return problem_of("a leaf file", [&] {
        static_cast<void>(format::LeafFile::open(path));
        return true;
      });
    });
}

void check_request(const PublishRequest& request) {
  if (request.leaves && request.v1_only)
    throw_usage("--leaves and --v1-only: a v1 torrent has no hashes that leaves could be compared with");
  for (const std::string& url : request.trackers)
    if (const auto problem = tracker_problem(url); !problem.empty())
      throw_usage("tracker '" + url + "' " + problem);
  for (const std::string& url : request.web_seeds)
    if (const auto problem = web_seed_problem(url); !problem.empty())
      throw_usage("web seed '" + url + "' " + problem);
}

/// Says why a file does not hold the leaves of this release.
std::string other_leaves(const fs::path& path, const ReleaseLayout& layout) {
  return problem_of("a leaf file", [&] {
    const auto found = format::LeafFile::open(path);
    return std::ranges::all_of(layout.files, [&](const ReleaseFile& file) {
      return !file.root || file.length_bytes <= base::kMerkleBlockBytes ||
             !found.read(*file.root, 0, 1).empty();
    });
  });
}

/// Writes the files that are not there yet, the .torrent last, so that a .torrent never lacks its other
/// files. All are looked at before the first is written.
void write_outputs(const PublishRequest& request, const fs::path& source, const PublishOutputs& outputs,
                   const std::string& torrent, const format::Manifest& manifest, base::StreamDigests& digests,
                   const ReleaseLayout& layout) {
  const base::InputFiles inputs{source};
  const base::OutputRule rule{.inputs = inputs, .overwrite = request.overwrite};
  std::vector<std::pair<fs::path, std::string>> files{{outputs.sums, format::sums_text(manifest.files)},
                                                      {outputs.manifest, format::to_text(manifest)},
                                                      {outputs.torrent, torrent}};
  std::erase_if(files, [&](const auto& file) {
    return !base::needs_writing(file.first, base::as_bytes(file.second), rule);
  });
  if (!outputs.leaves.empty()) {
    base::require_output(outputs.leaves,
                         {.inputs = inputs,
                          .problem = [&](const fs::path& path) { return other_leaves(path, layout); },
                          .overwrite = request.overwrite});
    write_leaves(outputs.leaves, digests, layout);
  }
  for (const auto& [path, text] : files) base::write_file(path, base::as_bytes(text));
}

PublishResult publish_source(const PublishRequest& request, const fs::path& source, base::Progress& progress,
                             const std::stop_token& stop) {
  ReleaseLayout layout = list_files(source);
  choose_pieces(request, layout);
  if (!request.v1_only) add_pad_files(layout);
  PublishResult result;
  const PublishOutputs outputs = outputs_of(request, source);
  require_outputs(request, source, outputs);
  result.torrent = outputs.torrent;
  result.manifest_path = outputs.manifest;
  result.sums = outputs.sums;
  result.leaves = outputs.leaves;

  base::StreamDigests digests = read_release(request, source, layout, progress, stop);
  take_digests(digests, request.v1_only, layout);
  Torrent torrent;
  torrent.info = to_info_text(layout);
  torrent.layout = std::move(layout);
  torrent.layout.infohash_v1 = base::hash<base::Sha1>(base::as_bytes(torrent.info));
  if (!request.v1_only) torrent.layout.infohash_v2 = base::hash<base::Sha256>(base::as_bytes(torrent.info));
  torrent.trackers = request.trackers;
  torrent.web_seeds = request.web_seeds;
  // What was written is read back from memory. The result has the layout that others will read, and not the
  // one that was put in.
  const std::string content = to_text(torrent);
  result.layout = parse_torrent(content, result.torrent.string());
  result.manifest = make_manifest(request, result.layout, digests);
  result.magnet = result.manifest.magnet();
  for (const std::string& url : request.web_seeds) result.magnet += "&ws=" + base::percent_encode(url);

  write_outputs(request, source, outputs, content, result.manifest, digests, result.layout);
  return result;
}

}  // namespace

PublishOutputs choose_outputs(const PublishRequest& request) {
  check_request(request);
  const fs::path source = to_source(request.folder);
  PublishOutputs outputs = outputs_of(request, source);
  require_outputs(request, source, outputs);
  return outputs;
}

PublishResult publish(const PublishRequest& request, base::Progress& progress, const std::stop_token& stop) {
  check_request(request);
  const fs::path source = to_source(request.folder);
  try {
    return publish_source(request, source, progress, stop);
  } catch (const fs::filesystem_error& error) {
    base::throw_errno(error.path1().empty() ? source : error.path1(), "read", error.code().value());
  }
}

}  // namespace sluice::fetch
