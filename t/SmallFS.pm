# SmallFS.pm
#	A small file system of one's own.  "use" it before anything else.
#
# Its directory is called "lightning", so that the one above it can be a data
# directory whose engine's files, and only those, are on it.
# It is LIGHTNING_SMALL_FS (t/check.sh mounts a tmpfs when it runs as root), or a
# tmpfs that this module mounts in a user and mount namespace of the script's own:
# it starts the script anew in there.  Where neither is possible, small_fs() is undef.
package SmallFS;

use strict;
use warnings;
use Exporter 'import';
use File::Basename 'dirname';

our @EXPORT = qw(small_fs free_kb put_ballast take_rest remove_ballast);
our $size_mb = 192;

sub run_again_in_namespace
{
	my $dir = ($ENV{TESTDIR} // '/tmp') . "/small_fs_$$/lightning";
	my @unshare = ('unshare', '--user', '--mount', '--map-current-user', '--keep-caps');
	my $mount = "mount -t tmpfs -o size=${size_mb}m,mode=0777 small '$dir'";

	mkdir dirname($dir) or return;
	mkdir $dir or return;
	if (system("@unshare sh -c \"$mount\" >/dev/null 2>&1") != 0)
	{
		rmdir $dir;
		rmdir dirname($dir);
		return;
	}
	$ENV{LIGHTNING_SMALL_FS} = $dir;
	exec(@unshare, 'sh', '-c', "$mount && exec setpriv --inh-caps=-all --ambient-caps=-all \"\$@\"",
		'sh', $^X, (map { "-I$_" } @INC), $0)
	  or die "cannot start $0 again: $!";
}

run_again_in_namespace() unless $ENV{LIGHTNING_SMALL_FS};

sub small_fs { return $ENV{LIGHTNING_SMALL_FS}; }

sub free_kb
{
	my $dir = small_fs();
	my @line = split /\n/, `df -Pk '$dir'`;
	return (split ' ', $line[-1])[3];
}

# Leave so much free.
sub put_ballast
{
	my ($leave_kb) = @_;
	my $kb = free_kb() - $leave_kb;
	system('fallocate', '-l', "${kb}KiB", small_fs() . '/ballast') == 0 or die "no ballast of $kb kB";
	return;
}

# Leave nothing free, whatever others do at the moment.
sub take_rest
{
	my $n = () = glob(small_fs() . '/ballast*');
	my $kb = free_kb();
	system('fallocate', '-l', "${kb}KiB", small_fs() . "/ballast$n") if $kb > 0;
	return;
}

sub remove_ballast
{
	unlink(glob(small_fs() . '/ballast*')) or die "no ballast: $!";
	return;
}

1;
