// The record of a release is written when its layout is known, as incomplete, and again at the end. A
// complete release that still is where its record says keeps that record, so that a second copy elsewhere
// does not hide it. Files of such a release are cloned in on_layout(): then fetch holds the lock of its
// output folder and has not looked at the files yet, so it verifies them like any other file that it finds.

#include "library/placed_fetch.h"

#include <filesystem>
#include <utility>

#include "base/error.h"
#include "base/text.h"
#include "library/clone_files.h"
#include "library/disk_space.h"
#include "library/store.h"

namespace sluice::library {
namespace {

namespace fs = std::filesystem;

class PlaceObserver final : public fetch::FetchObserver {
 public:
  PlaceObserver(const PlacedFetch& fetch, fetch::FetchObserver& observer, const Context& context)
      : fetch_(fetch), observer_(observer), context_(context) {
    if (!context.folders.store.empty()) store_.emplace(context.folders.store);
  }

  void on_layout(const format::ReleaseLayout& layout) override {
    observer_.on_layout(layout);  // may refuse the torrent
    if (fetch_.request.dry_run || !store_) return;
    place_ = make_place(layout);
    const auto known = store_->find_place(place_.key());
    if (!known || !known->complete) return record(false);
    recorded_elsewhere_ = known->folder != place_.folder;
    // A selection is left to the network: it is small, and clones of all files are not what was asked for.
    const bool whole = fetch_.request.select.empty() && fetch_.request.exclude.empty();
    if (recorded_elsewhere_ && whole) take_from(*known, layout);
  }
  void on_preflight(const fetch::Preflight& preflight) override {
    observer_.on_preflight(preflight);
    if (!fetch_.request.dry_run && !fetch_.quant.empty()) announce_model(preflight);
  }
  void on_swarm(const fetch::Swarm& swarm) override { observer_.on_swarm(swarm); }
  void on_status(const fetch::FetchStatus& status) override { observer_.on_status(status); }
  void on_warning(std::string_view message) override { observer_.on_warning(message); }

  /// The fetch has ended with all wanted files.
  void on_end() {
    const bool whole = fetch_.request.select.empty() && fetch_.request.exclude.empty();
    if (fetch_.request.dry_run || !store_ || !whole || recorded_elsewhere_) return;
    record(true);
  }

 private:
  [[nodiscard]] ReleasePlace make_place(const format::ReleaseLayout& layout) const {
    ReleasePlace place;
    place.name = fetch_.release_name.empty() ? layout.name : fetch_.release_name;
    place.torrent_name = layout.name;
    if (layout.infohash_v1) place.infohash_v1 = base::to_hex(*layout.infohash_v1);
    if (layout.infohash_v2) place.infohash_v2 = base::to_hex(*layout.infohash_v2);
    place.folder = fs::weakly_canonical(fs::absolute(fetch_.request.output_folder));
    if (!place.folder.has_filename()) place.folder = place.folder.parent_path();
    place.bytes = layout.payload_bytes();
    return place;
  }

  void record(bool complete) {
    place_.complete = complete;
    try {
      store_->keep_place(place_);
    } catch (const base::Error& error) {
      // The release itself does not need the record.
      if (std::exchange(warned_, true)) return;
      observer_.on_warning(std::string(error.what()) + "; run will not know where this release lies");
    }
  }

  void take_from(const ReleasePlace& known, const format::ReleaseLayout& layout) {
    if (fs::exists(place_.path())) return;  // fetch goes on with what is there
    context_.observer.on_note(base::to_printable(known.path().string()) +
                              " is this release already; its files are taken from there and verified");
    static_cast<void>(clone_files(layout, known.folder, place_.folder, context_));
  }

  void announce_model(const fetch::Preflight& preflight) {
    const std::uint64_t model_bytes = estimate_model_bytes(preflight.wanted_bytes, fetch_.quant);
    const fs::path folder = context_.folders.store / "models";
    const std::uint64_t free = free_bytes(folder);
    const std::uint64_t missing_bytes =
        preflight.wanted_bytes - std::min(preflight.wanted_bytes, preflight.present_bytes);
    const bool shared = share_space(folder, fetch_.request.output_folder);
    const std::uint64_t needed_bytes = model_bytes + (shared ? missing_bytes : 0);
    context_.observer.on_note("then a " + fetch_.quant + " model of about " +
                              base::to_human_bytes(model_bytes) + " in " + folder.string());
    if (needed_bytes > free)
      throw base::Error(base::ErrorKind::no_space, folder.string() + ": " +
                                                       base::to_human_bytes(needed_bytes) + " are needed" +
                                                       (shared ? " for the release and the model" : "") +
                                                       ", " + base::to_human_bytes(free) + " are free");
  }

  const PlacedFetch& fetch_;
  fetch::FetchObserver& observer_;
  const Context& context_;
  std::optional<Store> store_;
  ReleasePlace place_;
  bool recorded_elsewhere_ = false;
  bool warned_ = false;
};

/// A magnet link's metadata need not come from peers when another fetch has saved them.
void offer_torrent(const fetch::FetchRequest& request, const Context& context) {
  if (context.folders.store.empty() || !request.source.starts_with("magnet:")) return;
  const auto magnet = fetch::parse_magnet(request.source);
  const std::string key =
      magnet.infohash_v1 ? base::to_hex(*magnet.infohash_v1) : base::to_hex(magnet.infohash_v2.value());
  const auto known = Store(context.folders.store).find_place(key);
  const fs::path own = request.output_folder / ".sluice";
  const fs::path torrent = own / (key + ".torrent");
  std::error_code absent;
  if (!known || fs::exists(torrent, absent) || fs::is_symlink(own, absent) ||
      !fs::is_regular_file(known->torrent(), absent))
    return;
  base::make_directories(own);
  base::write_file(torrent, base::read_file(known->torrent(), fetch::kTorrentBytesMax));
}

}  // namespace

fetch::FetchResult fetch_to_place(PlacedFetch fetch, fetch::FetchObserver& observer, const Context& context) {
  offer_torrent(fetch.request, context);
  PlaceObserver recorder(fetch, observer, context);
  auto result = fetch::fetch(fetch.request, recorder, context.stop);
  recorder.on_end();
  return result;
}

}  // namespace sluice::library
