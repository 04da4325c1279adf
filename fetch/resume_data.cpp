#include "fetch/resume_data.h"

#include <libtorrent/read_resume_data.hpp>
#include <libtorrent/torrent_info.hpp>
#include <libtorrent/write_resume_data.hpp>
#include <map>
#include <utility>

#include "base/bytes.h"
#include "base/file.h"
#include "fetch/torrent_file.h"

namespace sluice::fetch {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kResumeBytesMax = std::uint64_t{1} << 30;

/// The files as they are on the disk now.
class Disk {
 public:
  explicit Disk(const lt::add_torrent_params& params)
      : params_(params), files_(std::as_const(*params.ti).files()) {
    const lt::sha1_hash best = params.ti->info_hashes().get_best();
    const auto hex =
        base::to_hex(std::as_bytes(std::span(best.data(), static_cast<std::size_t>(best.size()))));
    has_part_file_ = fs::exists(fs::path(params.save_path) / ("." + hex + ".parts"));
  }

  [[nodiscard]] bool holds_piece(lt::piece_index_t piece) {
    for (const auto& slice : files_.map_block(piece, 0, files_.piece_size(piece))) {
      if (files_.pad_file_at(slice.file_index)) continue;
      if (size_of(slice.file_index) >= slice.offset + slice.size) continue;
      // libtorrent keeps what a wanted piece holds of unwanted files in a part file.
      if (has_part_file_ && is_unwanted(slice.file_index)) continue;
      return false;
    }
    return true;
  }

 private:
  [[nodiscard]] bool is_unwanted(lt::file_index_t index) const {
    return params_.file_priorities[static_cast<std::size_t>(static_cast<int>(index))] == lt::dont_download;
  }

  std::int64_t size_of(lt::file_index_t index) {
    const auto known = sizes_.find(index);
    if (known != sizes_.end()) return known->second;
    const auto renamed = params_.renamed_files.find(index);
    const std::string path =
        renamed == params_.renamed_files.end() ? files_.file_path(index) : renamed->second;
    std::error_code missing;
    const auto size = fs::file_size(fs::path(params_.save_path) / path, missing);
    return sizes_[index] = missing ? -1 : static_cast<std::int64_t>(size);
  }

  const lt::add_torrent_params& params_;
  const lt::file_storage& files_;
  std::map<lt::file_index_t, std::int64_t> sizes_;
  bool has_part_file_ = false;
};

/// Clears the bits of pieces that are not there any more; returns their number.
std::uint64_t drop_lost_pieces(lt::add_torrent_params& params) {
  std::uint64_t lost = 0;
  Disk disk(params);
  for (const lt::piece_index_t piece : params.have_pieces.range()) {
    if (!params.have_pieces.get_bit(piece) || disk.holds_piece(piece)) continue;
    params.have_pieces.clear_bit(piece);
    ++lost;
  }
  return lost;
}

}  // namespace

std::string read_resume_data(const fs::path& path, lt::add_torrent_params& params) {
  if (!fs::exists(path)) return "";
  const std::string content = base::read_text_file(path, kResumeBytesMax);
  lt::load_torrent_limits limits;
  limits.max_buffer_size = static_cast<int>(kResumeBytesMax);
  limits.max_pieces = kPiecesMax;
  limits.max_decode_tokens = kTokensMax;
  lt::error_code error;
  lt::add_torrent_params saved =
      lt::read_resume_data({content.data(), static_cast<std::ptrdiff_t>(content.size())}, error, limits);
  // 2.0.8 takes the resume data of another torrent without a word.
  if (error || saved.info_hashes != params.ti->info_hashes() ||
      saved.have_pieces.size() > params.ti->files().num_pieces())
    return path.string() + ": is damaged; the files are checked instead";
  saved.have_pieces.resize(params.ti->files().num_pieces(), false);
  // Not the hash trees: 2.0.8 crashes when it loads them (fixed in 2.0.13). The .torrent has the piece
  // layers.
  params.have_pieces = std::move(saved.have_pieces);
  params.total_uploaded = saved.total_uploaded;
  params.total_downloaded = saved.total_downloaded;
  const std::uint64_t lost = drop_lost_pieces(params);
  if (lost == 0) params.unfinished_pieces = std::move(saved.unfinished_pieces);
  if (params.have_pieces.none_set()) {
    params.have_pieces.clear();
  } else {
    // libtorrent's own look at the files rejects all that is known when one file has gone.
    params.flags |= lt::torrent_flags::no_verify_files;
  }
  if (lost == 0) return "";
  return "files have changed since they were fetched; " + std::to_string(lost) + " pieces are fetched again";
}

void write_resume_data(const fs::path& path, const lt::add_torrent_params& params) {
  const std::vector<char> content = lt::write_resume_data_buf(params);
  base::write_file(path, base::as_bytes({content.data(), content.size()}));
}

}  // namespace sluice::fetch
