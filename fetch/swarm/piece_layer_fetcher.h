#pragma once
// Gets the piece layers of a v2 magnet link: asks libtorrent for the hashes that peers have sent, and saves
// the layers for the .torrent. Without them nobody could share the release, and the journal would prove
// nothing.
//
// The hashes are read from libtorrent's resume data. Its torrent_file_with_hashes() returns null while hashes
// are missing, and hashes whole trees again on the network thread at each call, which takes seconds for a
// large release (2.0.8; not known to be fixed).

#include <chrono>
#include <functional>
#include <libtorrent/add_torrent_params.hpp>
#include <libtorrent/alert.hpp>
#include <libtorrent/file_storage.hpp>
#include <libtorrent/torrent_handle.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "format/release_layout.h"

namespace sluice::fetch {

class PieceLayerFetcher final {
 public:
  /// `files` is libtorrent's list of the same torrent; `layout` must outlive the fetcher. Each time that more
  /// layers are known, they are written to the file `result`, bencoded as in a .torrent; its reader checks
  /// them. `on_complete` gets the same text once, when no layer is missing.
  PieceLayerFetcher(const format::ReleaseLayout& layout, const lt::file_storage& files,
                    const lt::torrent_handle& torrent, std::string result,
                    std::function<void(std::string_view)> on_complete);

  /// True when no layer is missing.
  [[nodiscard]] bool complete() const { return complete_; }
  /// Call periodically. The pauses between requests grow.
  void tick();
  /// Makes the next tick() send a request.
  void hurry();
  /// Returns whether the alert answered a request.
  bool handle(const lt::alert& alert);

 private:
  using Clock = std::chrono::steady_clock;

  void save(const lt::add_torrent_params& params);

  const format::ReleaseLayout& layout_;
  lt::torrent_handle torrent_;
  std::string result_;
  std::function<void(std::string_view)> on_complete_;
  std::vector<lt::file_index_t> lt_files_;  // per file of the layout; -1 for pad files
  Clock::time_point next_ = Clock::now();
  std::chrono::milliseconds pause_;
  bool asked_ = false;           // a request has no answer yet
  std::size_t known_count_ = 0;  // layers in the file `result_`
  bool complete_ = false;
};

}  // namespace sluice::fetch
