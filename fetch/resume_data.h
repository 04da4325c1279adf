#pragma once
// libtorrent's resume data as a journal of what is proven: which pieces are on the disk, hashed and synced.

#include <filesystem>
#include <libtorrent/add_torrent_params.hpp>
#include <string>

namespace sluice::fetch {

/// Takes the finished and begun pieces from the file, if it is there and of exactly this torrent, and drops
/// those whose files have gone or shrunk since. `params` has its files, save_path and file_priorities.
/// Returns a sentence for the user when something was not as it was left, else an empty text.
[[nodiscard]] std::string read_resume_data(const std::filesystem::path& path, lt::add_torrent_params& params);

/// Writes the file in one step.
void write_resume_data(const std::filesystem::path& path, const lt::add_torrent_params& params);

}  // namespace sluice::fetch
