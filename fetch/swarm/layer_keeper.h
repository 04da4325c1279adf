#pragma once
// The piece layers of a v2 magnet link: asked of libtorrent as peers tell them, and kept for the .torrent.
// Without them nobody could share it, and the journal proves nothing.

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

class LayerKeeper final {
 public:
  /// `files` are libtorrent's of the same torrent; `layout` outlives the keeper. What is known is written to
  /// the file `result` (bencoded, as a .torrent has it; its reader checks it) each time that it becomes more,
  /// and told to `on_complete` once it is all.
  LayerKeeper(const format::ReleaseLayout& layout, const lt::file_storage& files,
              const lt::torrent_handle& torrent, std::string result,
              std::function<void(std::string_view)> on_complete);

  /// True when there is nothing to ask for.
  [[nodiscard]] bool complete() const { return complete_; }
  /// Now and then; asks more and more seldom.
  void tick();
  /// Asks at the next tick.
  void hurry();
  /// Returns whether the alert was an answer to it.
  bool handle(const lt::alert& alert);

 private:
  using Clock = std::chrono::steady_clock;

  void save(const lt::add_torrent_params& params);

  const format::ReleaseLayout& layout_;
  lt::torrent_handle torrent_;
  std::string result_;
  std::function<void(std::string_view)> on_complete_;
  std::vector<lt::file_index_t> lt_files_;  // one of ours each; pad files have none
  Clock::time_point next_ = Clock::now();
  std::chrono::milliseconds pause_;
  bool asked_ = false;           // and not answered yet
  std::size_t known_count_ = 0;  // and written
  bool complete_ = false;
};

}  // namespace sluice::fetch
