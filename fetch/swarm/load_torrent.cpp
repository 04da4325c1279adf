// Two parsers read the same metadata: ours, which is strict, and libtorrent's, which corrects names. Whatever
// they do not agree on is refused here, so that the paths and lengths that were checked are the ones that are
// written.

#include "fetch/swarm/load_torrent.h"

#include <libtorrent/info_hash.hpp>
#include <libtorrent/load_torrent.hpp>
#include <libtorrent/torrent_info.hpp>
#include <utility>

#include "base/bytes.h"
#include "base/error.h"
#include "fetch/job/memory_budget.h"
#include "fetch/swarm/libtorrent_faults.h"

namespace sluice::fetch {
namespace {

std::string path_in_folder(const format::ReleaseLayout& layout, const format::ReleaseFile& file) {
  return layout.single_file ? file.path : layout.name + '/' + file.path;
}

[[noreturn]] void differ(const std::string& what) {
  base::throw_malformed("torrent", "two readings of it differ in " + what);
}

/// Throws unless libtorrent has the same files, and gives them our paths.
void check_files(const format::ReleaseLayout& layout, lt::add_torrent_params& params) {
  const lt::file_storage& files = std::as_const(*params.ti).files();
  auto ours = layout.files.begin();
  for (const lt::file_index_t index : files.file_range()) {
    if (files.pad_file_at(index)) continue;
    while (ours != layout.files.end() && ours->pad) ++ours;
    if (ours == layout.files.end()) differ("the number of files");
    if (static_cast<std::uint64_t>(files.file_size(index)) != ours->length_bytes)
      differ("the length of '" + ours->path + "'");
    // Our reader refuses symbolic links, so this can only be a difference between the readers.
    if (files.file_flags(index) & lt::file_storage::flag_symlink)
      differ("the attributes of '" + ours->path + "'");
    const std::string path = path_in_folder(layout, *ours);
    if (files.file_path(index) != path) params.renamed_files[index] = path;
    ++ours;
  }
  while (ours != layout.files.end() && ours->pad) ++ours;
  if (ours != layout.files.end()) differ("the number of files");
}

/// Makes libtorrent treat a hybrid torrent as v1. It has no function for that; the reference that
/// info_hashes() returns is const, but the torrent_info that it refers to is not (libtorrent_faults.h).
void hide_v2(lt::add_torrent_params& params) {
  const_cast<lt::info_hash_t&>(params.ti->info_hashes()).v2.clear();
  params.info_hashes.v2.clear();
  params.ti->free_piece_layers();
}

}  // namespace

lt::info_hash_t to_info_hashes(const std::optional<base::Sha1>& v1, const std::optional<base::Sha256>& v2) {
  lt::info_hash_t hashes;
  if (v1) hashes.v1 = lt::sha1_hash(base::as_text(v1->bytes).data());
  if (v2) hashes.v2 = lt::sha256_hash(base::as_text(v2->bytes).data());
  return hashes;
}

lt::add_torrent_params load_torrent(Torrent& torrent, std::uint64_t tree_bytes_max) {
  lt::load_torrent_limits limits;
  limits.max_buffer_size = static_cast<int>(kTorrentBytesMax);
  limits.max_pieces = kPiecesMax;
  limits.max_decode_depth = kDepthMax;
  limits.max_decode_tokens = kTokensMax;
  // The bytes that our reader accepted, written again: libtorrent cannot see anything that we have not
  // checked.
  const std::string content = to_text(torrent);
  torrent.info.clear();
  torrent.info.shrink_to_fit();
  lt::add_torrent_params params;
  try {
    params = lt::load_torrent_buffer({content.data(), static_cast<std::ptrdiff_t>(content.size())}, limits);
  } catch (const boost::system::system_error& error) {
    base::throw_malformed("torrent", error.code().message());
  }
  if (params.ti->info_hashes() != to_info_hashes(torrent.layout.infohash_v1, torrent.layout.infohash_v2))
    differ("the info-hashes");
  check_files(torrent.layout, params);
  if (torrent.layout.infohash_v1 && tree_bytes(torrent.layout) > tree_bytes_max) hide_v2(params);
  return params;
}

}  // namespace sluice::fetch
